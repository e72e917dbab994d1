"""What packed products take up from the graph around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from effcompile.frontend.kernels.marking import marks_of
from effcompile.lower import LoweredProgram
from schedules.packing import pack_stream
from tests.effcompile.lowered_models import graph_model, lowered, operators, run_lowered

DEPTH, BLOCK = 64, 32


class Layers:
    """Quantised layers of one width and their float64 matrices, as a graph is written."""

    def __init__(self, dtype: str = "float16") -> None:
        self.dtype = np.dtype(dtype)
        self.constants: dict[str, Any] = {}
        self.nodes: list[Any] = []
        self.matrices: dict[str, np.ndarray] = {}
        self._rng = np.random.default_rng(0)

    def layer(self, name: str, n_columns: int, *, source: str = "x", bits: int = 4) -> None:
        """``name = source @ matrix``, stored as ``MatMulNBits`` wants it."""
        codes = self._rng.integers(0, 2**bits, (n_columns, DEPTH // BLOCK, BLOCK)).astype(np.uint8)
        scales = self._rng.uniform(0.1, 1, codes.shape[:2]).astype(self.dtype)
        self.constants |= {f"{name}_w": pack_stream(codes, bits), f"{name}_s": scales}
        wide = (codes.astype(np.float64) - 2 ** (bits - 1)) * scales[..., None].astype(np.float64)
        self.matrices[name] = wide.reshape(n_columns, DEPTH).T
        sizes = {"K": DEPTH, "N": n_columns, "bits": bits, "block_size": BLOCK}
        inputs = [source, f"{name}_w", f"{name}_s"]
        self.add("MatMulNBits", inputs, name, domain="com.microsoft", **sizes)

    def add(self, op: str, inputs: list[str], output: str, **attrs: Any) -> None:
        """Any other node."""
        self.nodes.append(helper.make_node(op, inputs, [output], **attrs))

    def vector(self, name: str, n: int) -> np.ndarray:
        """A stored bias."""
        self.constants[name] = self._rng.standard_normal(n).astype(self.dtype)
        return np.asarray(self.constants[name], np.float64)

    def lowered(self, inputs: dict[str, np.ndarray], outputs: list[str]) -> LoweredProgram:
        """The graph for a CPU."""
        kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        types = dict.fromkeys(outputs, kind)
        return lowered(
            graph_model(
                self.nodes, inputs, outputs, constants=self.constants, output_types=types, opset=24
            )
        )


def normal(*shape: int, dtype: str = "float16") -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def attributes(program: LoweredProgram) -> dict[str, Any]:
    """Of the only function."""
    functions = [one for _, one in program.module.functions_items() if marks_of(one)[1]]
    (found,) = functions
    return marks_of(found)[1]


def functions(program: LoweredProgram) -> int:
    """Kernels of the program, views aside."""
    return len(list(program.module.functions_items())) - 1


def close(found: np.ndarray, expected: np.ndarray) -> None:
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=2e-3, atol=2e-3 * scale)


@pytest.mark.parametrize("rows", [3, 100])
def test_queries_keys_and_values_are_one_launch_with_an_output_each(rows: int) -> None:
    layers = Layers()
    biases = {}
    for name, columns in (("q", 40), ("k", 16), ("v", 7)):
        layers.layer(f"{name}0", columns)
        biases[name] = layers.vector(f"{name}_b", columns) if name != "v" else 0.0
        if name != "v":
            layers.add("Add", [f"{name}_b", f"{name}0"], name)
    x = normal(1, rows, DEPTH)
    program = layers.lowered({"x": x}, ["q", "k", "v0"])
    assert operators(program) == ["gemv_dequant"]
    assert functions(program) == 1
    assert attributes(program)["columns"] == "40 16 7"
    for found, name in zip(run_lowered(program, [x]), "qkv", strict=True):
        close(found, x.astype(np.float64) @ layers.matrices[f"{name}0"] + biases[name])


@pytest.mark.parametrize("written", ["Swish", "Sigmoid"])
def test_gate_and_up_are_one_product_and_down_takes_the_residual(written: str) -> None:
    layers = Layers()
    layers.layer("g", DEPTH)
    layers.layer("u", DEPTH)
    if written == "Swish":
        layers.add("Swish", ["g"], "a")
    else:
        layers.add("Sigmoid", ["g"], "s")
        layers.add("Mul", ["g", "s"], "a")
    layers.add("Mul", ["a", "u"], "h")
    layers.layer("d", 24, source="h")
    layers.add("Add", ["r", "d"], "y")
    x, r = normal(2, DEPTH), normal(2, 24)
    program = layers.lowered({"x": x, "r": r}, ["y"])
    assert operators(program) == ["gemv_dequant"] * 2
    assert functions(program) == 2
    wide = x.astype(np.float64)
    hidden = silu(wide @ layers.matrices["g"]) * (wide @ layers.matrices["u"])
    close(run_lowered(program, [x, r])[0], hidden @ layers.matrices["d"] + r)


def test_a_bias_and_an_activation_belong_to_the_product() -> None:
    layers = Layers("float32")
    layers.layer("p", 24)
    bias = layers.vector("b", 24)
    layers.add("Add", ["p", "b"], "s")
    layers.add("Gelu", ["s"], "y", approximate="tanh")
    x = normal(2, DEPTH, dtype="float32")
    program = layers.lowered({"x": x}, ["y"])
    assert functions(program) == 1
    assert attributes(program)["activation"] == "gelu_tanh"
    inner = x.astype(np.float64) @ layers.matrices["p"] + bias
    expected = 0.5 * inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
    close(run_lowered(program, [x])[0], expected)


def test_a_product_that_others_read_keeps_its_own_result() -> None:
    layers = Layers()
    layers.layer("p", 24)
    layers.add("Relu", ["p"], "y")
    x = normal(1, DEPTH)
    program = layers.lowered({"x": x}, ["y", "p"])
    assert attributes(program)["activation"] == ""
    expected = x.astype(np.float64) @ layers.matrices["p"]
    found, raw = run_lowered(program, [x])
    close(raw, expected)
    close(found, np.maximum(expected, 0))


def test_products_of_different_inputs_or_formats_stay_apart() -> None:
    layers = Layers()
    layers.layer("a", 16)
    layers.layer("b", 16, bits=8)
    layers.layer("c", 16, source="z")
    x, z = normal(1, DEPTH), -normal(1, DEPTH)
    program = layers.lowered({"x": x, "z": z}, ["a", "b", "c"])
    assert operators(program) == ["gemv_dequant"] * len(set(operators(program))) * 2
    for found, (name, given) in zip(
        run_lowered(program, [x, z]), {"a": x, "b": x, "c": z}.items(), strict=True
    ):
        close(found, given.astype(np.float64) @ layers.matrices[name])


@pytest.mark.parametrize("per", ["tensor", "row", "block"])
def test_quantised_activations_reach_the_product_as_integers(per: str) -> None:
    """``DequantizeLinear`` of both operands; 4-bit weights in blocks."""
    rng = np.random.default_rng(0)
    rows, n_columns = 3, 24
    codes = rng.integers(-8, 8, (DEPTH, n_columns))
    w_s = rng.uniform(0.1, 1, (DEPTH // BLOCK, n_columns)).astype(np.float32)
    shape: tuple[int, ...] = {"tensor": (), "row": (rows,), "block": (rows, 1)}[per]
    x_s = rng.uniform(0.01, 0.03, shape)
    attrs = {"tensor": {}, "row": {"axis": 0}, "block": {"axis": 1, "block_size": DEPTH}}[per]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "x_s"], ["x"], **attrs),
        helper.make_node("DequantizeLinear", ["w", "w_s"], ["m"], axis=0, block_size=BLOCK),
        helper.make_node("MatMul", ["x", "m"], ["y"]),
    ]
    weight = helper.make_tensor("w", TensorProto.INT4, codes.shape, codes.reshape(-1).tolist())
    q = rng.integers(-127, 128, (rows, DEPTH)).astype(np.int8)
    inputs = {"q": q, "x_s": np.float32(x_s)}
    model = graph_model(nodes, inputs, ["y"], constants={"w": weight, "w_s": w_s})
    program = lowered(model)
    assert attributes(program)["x_scales"] is True
    assert operators(program) == ["gemv_dequant"]
    (expected,) = ReferenceEvaluator(model).run(None, inputs)
    close(run_lowered(program, list(inputs.values()))[0], expected.astype(np.float64))


@pytest.mark.parametrize("written", ["Gemm", "Gemm without a bias", "Transpose"])
def test_linear_layers_as_torch_exports_them(written: str) -> None:
    """Weights lie by output feature: a ``Gemm`` takes them so, a ``MatMul`` transposed."""
    rng = np.random.default_rng(0)
    n_columns = 24
    codes = rng.integers(-8, 8, (n_columns, DEPTH))
    w_s = rng.uniform(0.1, 1, (n_columns, DEPTH // BLOCK)).astype(np.float32)
    bias = rng.standard_normal(n_columns).astype(np.float32)
    weight = helper.make_tensor("w", TensorProto.INT4, codes.shape, codes.reshape(-1).tolist())
    nodes = [helper.make_node("DequantizeLinear", ["w", "w_s"], ["m"], axis=1, block_size=BLOCK)]
    if written == "Transpose":
        nodes.append(helper.make_node("Transpose", ["m"], ["t"], perm=[1, 0]))
        nodes.append(helper.make_node("MatMul", ["x", "t"], ["y"]))
    else:
        inputs = ["x", "m"] if "without" in written else ["x", "m", "b"]
        nodes.append(helper.make_node("Gemm", inputs, ["y"], transB=1))
    constants = {"w": weight, "w_s": w_s, "b": bias}
    x = normal(3, DEPTH, dtype="float32")
    model = graph_model(nodes, {"x": x}, ["y"], constants=constants)
    program = lowered(model)
    assert operators(program) == ["gemv_dequant"]
    assert functions(program) == 1
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    close(run_lowered(program, [x])[0], expected.astype(np.float64))


def test_siblings_of_quantised_activations_are_one_launch() -> None:
    """Each layer has a ``DequantizeLinear`` of its own, as exporters write them."""
    layers = Layers("float32")
    for name in ("a", "b"):
        layers.add("DequantizeLinear", ["q", "s"], f"{name}_x", axis=0)
        layers.layer(name, 24, source=f"{name}_x")
    q = np.random.default_rng(2).integers(-127, 128, (3, DEPTH)).astype(np.int8)
    s = np.array([0.01, 0.02, 0.03], np.float32)
    program = layers.lowered({"q": q, "s": s}, ["a", "b"])
    assert attributes(program)["columns"] == "24 24"
    for found, name in zip(run_lowered(program, [q, s]), "ab", strict=True):
        close(found, (q * s[:, None].astype(np.float64)) @ layers.matrices[name])


def test_activations_quantised_by_the_graph_reach_the_product_as_integers() -> None:
    layers = Layers("float32")
    layers.constants |= {"s": np.float32(0.05), "z": np.int8(0)}
    layers.add("QuantizeLinear", ["x", "s", "z"], "q")
    layers.add("DequantizeLinear", ["q", "s", "z"], "d")
    layers.layer("y", 24, source="d")
    x = normal(2, DEPTH, dtype="float32")
    program = layers.lowered({"x": x}, ["y"])
    assert attributes(program)["x_scales"] is True
    rounded = np.clip(np.rint(x / np.float32(0.05)), -128, 127) * 0.05
    close(run_lowered(program, [x])[0], rounded @ layers.matrices["y"])


@pytest.mark.parametrize(("dtype", "integers"), [("float32", True), ("float16", False)])
def test_many_quantised_rows_stay_integers_where_floats_are_slow(
    dtype: str, integers: bool
) -> None:
    layers = Layers(dtype)
    layers.add("DequantizeLinear", ["q", "s"], "d")
    layers.layer("y", 24, source="d", bits=8)
    q = np.random.default_rng(2).integers(-127, 128, (128, DEPTH)).astype(np.int8)
    s = np.array(0.01, dtype)
    program = layers.lowered({"q": q, "s": s}, ["y"])
    assert attributes(program)["x_scales"] is integers
    close(run_lowered(program, [q, s])[0], (q * np.float64(s)) @ layers.matrices["y"])


def test_the_own_operator_takes_scales_of_an_int8_input() -> None:
    layers = Layers()
    layers.layer("p", 24)
    (node,) = layers.nodes
    node.domain, node.op_type = "effcompile", "DequantMatMul"
    node.input.extend(["", "", "", "x_s"])
    x = np.random.default_rng(0).integers(-127, 128, (2, DEPTH)).astype(np.int8)
    x_s = np.array([[0.01], [0.03]], np.float32)
    program = layers.lowered({"x": x, "x_s": x_s}, ["p"])
    close(run_lowered(program, [x, x_s])[0], (x * x_s.astype(np.float64)) @ layers.matrices["p"])


def test_golden_product_of_symmetric_four_bit_weights_and_int8_rows() -> None:
    """Weights and scale of a column as MBQ quantises them; see the exact sum."""
    weights = np.array([-0.6, -0.31, -0.05, 0.12, 0.27, 0.44, 0.71, 0.8])
    scale = np.abs(weights).max() / 7
    codes = np.clip(np.rint(weights / scale), -8, 7).astype(np.int8)
    assert codes.tolist() == [-5, -3, 0, 1, 2, 4, 6, 7]
    stored = pack_stream((codes + 8).astype(np.uint8)[None, None], 4)
    assert stored.tobytes().hex() == "5398cafe"
    x = np.array([[100, -3, 7, 0, 1, -20, 50, 127]], np.int8)
    node = helper.make_node(
        "DequantMatMul",
        ["x", "w", "s", "", "", "", "x_s"],
        ["y"],
        domain="effcompile",
        K=8,
        N=1,
        bits=4,
        block_size=8,
    )
    constants = {"w": stored, "s": np.full((1, 1), 0.5, np.float32)}
    inputs = {"x": x, "x_s": np.array([0.25], np.float32)}
    program = lowered(graph_model([node], inputs, ["y"], constants=constants))
    # -500 + 9 + 0 + 0 + 2 - 80 + 300 + 889
    np.testing.assert_array_equal(run_lowered(program, list(inputs.values()))[0], [[620 / 8]])

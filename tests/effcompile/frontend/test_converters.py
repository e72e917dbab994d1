"""Operators outside attention against their definitions."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from effcompile.errors import BadModel
from effcompile.frontend.converters import registry
from schedules.packing import pack_stream
from tests.effcompile.lowered_models import graph_model, lowered, operators, run_lowered

# float32 sums of at most 64 products of N(0,1) data, reordered.
TOLERANCE = {"rtol": 2e-5, "atol": 5e-5}


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def agrees_with_reference(model: Any, inputs: dict[str, np.ndarray]) -> None:
    found = run_lowered(lowered(model), list(inputs.values()))
    expected = ReferenceEvaluator(model).run(None, inputs)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, **TOLERANCE)


@pytest.mark.parametrize("alpha", [1.0, 1.7])
def test_swish_multiplies_by_the_sigmoid(alpha: float) -> None:
    x = normal(3, 5)
    node = helper.make_node("Swish", ["x"], ["y"], alpha=alpha)
    found = run_lowered(lowered(graph_model([node], {"x": x}, ["y"], opset=24)), [x])
    wide = x.astype(np.float64)
    np.testing.assert_allclose(found[0], wide / (1 + np.exp(-alpha * wide)), **TOLERANCE)


@pytest.mark.parametrize("op_type", ["Sum", "Max", "Min", "Mean"])
def test_variadic_operators_broadcast(op_type: str) -> None:
    inputs = {"a": normal(2, 3), "b": normal(1, 3, seed=1), "c": normal(2, 1, seed=2)}
    node = helper.make_node(op_type, list(inputs), ["y"])
    agrees_with_reference(graph_model([node], inputs, ["y"]), inputs)


@pytest.mark.parametrize(
    "exponent",
    [
        np.int64(3),
        np.int64(0),
        np.array([0, 1, 2, 5]),
        np.array([0.5, 1, 2, 3], np.float32),
        np.float32(2),
    ],
    ids=["cube", "one", "each", "roots", "square"],
)
@pytest.mark.parametrize("dtype", ["float32", "int64", "int32"])
def test_powers_keep_the_dtype_of_the_base(dtype: str, exponent: np.ndarray) -> None:
    x = np.arange(1, 9).reshape(2, 4).astype(dtype)
    node = helper.make_node("Pow", ["x", "e"], ["y"])
    types = {"y": helper.np_dtype_to_tensor_dtype(x.dtype)}
    constants = {"e": np.asarray(exponent)}
    model = graph_model([node], {"x": x}, ["y"], constants=constants, output_types=types)
    (found,) = run_lowered(lowered(model), [x])
    assert found.dtype == x.dtype
    # ONNX leaves the rounding of roots of integers open; they are cut off here.
    wide = x.astype(np.float64) ** exponent
    expected = wide if dtype == "float32" else np.trunc(wide + 1e-9)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_gather_counts_from_the_end_and_stays_inside(axis: int, dtype: str) -> None:
    x, indices = normal(5, 7), np.array([[0, -1], [3, -5]], dtype)
    node = helper.make_node("Gather", ["x", "i"], ["y"], axis=axis)
    model = graph_model([node], {"x": x, "i": indices}, ["y"])
    program = lowered(model)
    np.testing.assert_array_equal(
        run_lowered(program, [x, indices])[0], np.take(x, indices, axis=axis)
    )
    outside = np.array([[10**6, 0], [-(10**6), 0]], dtype)
    (found,) = run_lowered(program, [x, outside])
    inside = np.array([[x.shape[axis] - 1, 0], [0, 0]])
    np.testing.assert_array_equal(found, np.take(x, inside, axis=axis))


@pytest.mark.parametrize("index", [0, 2, -1])
def test_one_row_by_a_constant_is_a_slice(index: int) -> None:
    x, at = normal(5, 3, 7), {"i": np.array(index)}
    nodes = [helper.make_node("Gather", ["x", "i"], ["y"], axis=1)]
    program = lowered(graph_model(nodes, {"x": x}, ["y"], constants=at))
    np.testing.assert_array_equal(run_lowered(program, [x])[0], x[:, index])
    assert not [v for v, _ in program.module.functions_items() if "take" in v.name_hint]


@pytest.mark.parametrize(
    ("given", "attrs", "lengths"),
    [
        ([2, 5], {}, [2, 5]),
        (None, {"num_outputs": 3}, [3, 3, 1]),
    ],
    ids=["lengths", "count"],
)
def test_parts_of_a_split(given: Any, attrs: dict[str, int], lengths: list[int]) -> None:
    x, names = normal(4, 7), [f"y{i}" for i in range(len(lengths))]
    inputs = ["x"] if given is None else ["x", "parts"]
    node = helper.make_node("Split", inputs, names, axis=-1, **attrs)
    constants = {} if given is None else {"parts": np.array(given)}
    found = run_lowered(lowered(graph_model([node], {"x": x}, names, constants=constants)), [x])
    for one, part in zip(found, np.split(x, np.cumsum(lengths)[:-1], -1), strict=True):
        np.testing.assert_array_equal(one, part)


def test_bfloat16_is_bounded_and_becomes_an_integer() -> None:
    x = np.array([-300, -2.5, 0.4, 7, 300], ml_dtypes.bfloat16)
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.INT8),
    ]
    bounds = {"low": np.array(-5, x.dtype), "high": np.array(100, x.dtype)}
    types = {"y": TensorProto.INT8}
    model = graph_model(nodes, {"x": x}, ["y"], constants=bounds, output_types=types)
    (found,) = run_lowered(lowered(model), [x])
    assert found.tolist() == [-5, -2, 0, 7, 100]


def test_one_hot_has_the_dtype_of_its_values() -> None:
    places = np.array([[0, 2, -1]])
    node = helper.make_node("OneHot", ["i", "depth", "values"], ["y"], axis=1)
    constants = {"depth": np.array(4), "values": np.array([0.5, 2], np.float32)}
    model = graph_model([node], {"i": places}, ["y"], constants=constants)
    (found,) = run_lowered(lowered(model), [places])
    (expected,) = ReferenceEvaluator(model).run(None, {"i": places})
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("signs", [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_infinities_of_either_sign(signs: tuple[int, int]) -> None:
    x = np.array([1, np.inf, -np.inf, np.nan], np.float32)
    attrs = {"detect_negative": signs[0], "detect_positive": signs[1]}
    node = helper.make_node("IsInf", ["x"], ["y"], **attrs)
    model = graph_model([node], {"x": x}, ["y"], output_types={"y": TensorProto.BOOL})
    (found,) = run_lowered(lowered(model), [x])
    assert found.tolist() == [False, bool(signs[1]), bool(signs[0]), False]


def test_truth_values_are_compared() -> None:
    inputs = {"a": np.array([[True, False], [False, True]]), "b": np.array([True, False])}
    node = helper.make_node("Equal", list(inputs), ["y"])
    types = {"y": TensorProto.BOOL}
    agrees_with_reference(graph_model([node], inputs, ["y"], output_types=types), inputs)


@pytest.mark.parametrize(
    "attrs",
    [
        {"mode": "linear"},
        {"mode": "linear", "antialias": 1, "exclude_outside": 1},
        {"mode": "linear", "antialias": 1, "coordinate_transformation_mode": "align_corners"},
        {"mode": "cubic", "antialias": 1},
        {"mode": "cubic", "coordinate_transformation_mode": "asymmetric"},
        {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
        {"mode": "nearest", "coordinate_transformation_mode": "half_pixel_symmetric"},
    ],
    ids=lambda attrs: "-".join(map(str, attrs.values())),
)
@pytest.mark.parametrize("scales", [(1.5, 1.3), (0.45, 0.7)], ids=["larger", "smaller"])
def test_resize_by_a_scale_that_leaves_a_rest(
    attrs: dict[str, Any], scales: tuple[float, float]
) -> None:
    x = normal(1, 2, 9, 11)
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], **attrs)
    constants = {"scales": np.array([1, 1, *scales], np.float32)}
    agrees_with_reference(graph_model([node], {"x": x}, ["y"], constants=constants), {"x": x})


def test_resize_of_some_axes_of_whole_numbers() -> None:
    x = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], axes=[0, 1], mode="linear")
    constants, types = {"sizes": np.array([7, 4])}, {"y": TensorProto.UINT8}
    model = graph_model([node], {"x": x}, ["y"], constants=constants, output_types=types)
    (found,) = run_lowered(lowered(model), [x])
    wide = graph_model([node], {"x": x.astype(np.float32)}, ["y"], constants=constants)
    (exact,) = ReferenceEvaluator(wide).run(None, {"x": x.astype(np.float32)})
    assert (found.dtype, found.shape) == (np.uint8, (7, 4, 3))
    assert np.abs(found - exact).max() <= 0.501


def pack(values: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned values along the last axis into bytes, lowest bits first."""
    per_byte = 8 // bits
    padded = np.zeros((*values.shape[:-1], -(-values.shape[-1] // per_byte) * per_byte), np.uint8)
    padded[..., : values.shape[-1]] = values
    shifts = np.arange(per_byte) * bits
    groups = padded.reshape(*padded.shape[:-1], -1, per_byte).astype(np.uint32) << shifts
    return groups.sum(axis=-1).astype(np.uint8)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zeros", ["none", "packed", "float"])
def test_matmul_nbits_unpacks_while_it_multiplies(bits: int, zeros: str) -> None:
    depth, n_columns, block = 48, 5, 16
    n_blocks = depth // block
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**bits, (n_columns, n_blocks, block))
    scales = rng.uniform(0.1, 1, (n_columns, n_blocks)).astype(np.float32)
    points = rng.integers(0, 2**bits, (n_columns, n_blocks)).astype(np.float64)
    x, bias = normal(2, 3, depth), normal(n_columns, seed=1)
    constants: dict[str, Any] = {"w": pack(values, bits), "s": scales.reshape(-1), "bias": bias}
    names = ["x", "w", "s", "", "", "bias"]
    if zeros == "none":
        points[:] = 2 ** (bits - 1)
    else:
        names[3] = "z"
        packed = pack(points.astype(np.uint8), bits).reshape(-1)
        constants["z"] = packed if zeros == "packed" else points.astype(np.float32)
    node = helper.make_node(
        "MatMulNBits",
        names,
        ["y"],
        domain="com.microsoft",
        K=depth,
        N=n_columns,
        bits=bits,
        block_size=block,
    )
    program = lowered(graph_model([node], {"x": x}, ["y"], constants=constants))
    assert operators(program) == ["dequant_matmul"]
    matrix = ((values - points[..., None]) * scales[..., None]).reshape(n_columns, depth)
    expected = x.astype(np.float64) @ matrix.T + bias
    np.testing.assert_allclose(run_lowered(program, [x])[0], expected, **TOLERANCE)


def test_matmul_nbits_of_three_bits_is_refused_with_the_node_named() -> None:
    constants = {"w": np.zeros((4, 3, 6), np.uint8), "s": np.ones(12, np.float32)}
    node = helper.make_node(
        "MatMulNBits",
        ["x", "w", "s"],
        ["y"],
        name="three",
        domain="com.microsoft",
        K=48,
        N=4,
        bits=3,
        block_size=16,
    )
    model = graph_model([node], {"x": normal(1, 48)}, ["y"], constants=constants)
    with pytest.raises(BadModel, match=r"node three .*bits is 3, expected one of"):
        lowered(model)


def quantised(kind: int, values: np.ndarray, name: str) -> TensorProto:
    return helper.make_tensor(name, kind, values.shape, values.reshape(-1).tolist())


@pytest.mark.parametrize("kind", [TensorProto.INT8, TensorProto.UINT4, TensorProto.INT4])
@pytest.mark.parametrize("block", [0, 8], ids=["per column", "blocked"])
def test_dequantised_product_is_one_function(kind: int, block: int) -> None:
    low, high = {TensorProto.INT8: (-128, 127), TensorProto.UINT4: (0, 15)}.get(kind, (-8, 7))
    rng = np.random.default_rng(0)
    depth, n_columns = 16, 6
    shape = (depth // block, n_columns) if block else (n_columns,)
    constants = {
        "w": quantised(kind, rng.integers(low, high + 1, (depth, n_columns)), "w"),
        "s": rng.uniform(0.1, 1, shape).astype(np.float32),
        "z": quantised(kind, rng.integers(low, high + 1, shape), "z"),
    }
    attrs = {"axis": 0, "block_size": block} if block else {"axis": 1}
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], **attrs),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    inputs = {"x": normal(3, depth)}
    model = graph_model(nodes, inputs, ["y"], constants=constants)
    # Blocks of 4 are too short for the packed form.
    assert operators(lowered(model)) == ["dequant_matmul" if block else "gemv_dequant"]
    agrees_with_reference(model, inputs)


@pytest.mark.parametrize("attrs", [{"axis": 1, "block_size": 4}, {"axis": 0}, {"axis": 2}])
def test_dequantize_linear_of_data_agrees_with_the_reference(attrs: dict[str, int]) -> None:
    shape: list[int] = [2, 8, 3]
    scale_shape = [2, 2, 3] if "block_size" in attrs else [shape[attrs["axis"]]]
    rng = np.random.default_rng(0)
    inputs = {
        "x": rng.integers(-128, 128, shape).astype(np.int8),
        "s": rng.uniform(0.1, 1, scale_shape).astype(np.float32),
    }
    node = helper.make_node("DequantizeLinear", ["x", "s"], ["y"], **attrs)
    agrees_with_reference(graph_model([node], inputs, ["y"]), inputs)


def rms(x: Any, epsilon: float) -> Any:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon)


def test_simplified_layer_norm_in_the_default_domain_is_adopted() -> None:
    x, weight = normal(2, 3, 8), normal(8, seed=1)
    node = helper.make_node("SimplifiedLayerNormalization", ["x", "w"], ["y"], epsilon=1e-3)
    program = lowered(graph_model([node], {"x": x}, ["y"], constants={"w": weight}))
    expected = rms(x.astype(np.float64), 1e-3) * weight
    np.testing.assert_allclose(run_lowered(program, [x])[0], expected, **TOLERANCE)
    assert operators(program) == ["rms_norm"]


def test_skip_simplified_layer_norm_returns_the_sum() -> None:
    inputs = {"x": normal(2, 3, 8), "skip": normal(2, 3, 8, seed=1)}
    constants = {"w": normal(8, seed=2), "b": normal(8, seed=3)}
    node = helper.make_node(
        "SkipSimplifiedLayerNormalization",
        ["x", "skip", "w", "b"],
        ["y", "", "", "sum"],
        domain="com.microsoft",
    )
    model = graph_model([node], inputs, ["y", "sum"], constants=constants)
    found = run_lowered(lowered(model), list(inputs.values()))
    total = inputs["x"].astype(np.float64) + inputs["skip"] + constants["b"]
    np.testing.assert_allclose(found[0], rms(total, 1e-5) * constants["w"], **TOLERANCE)
    np.testing.assert_allclose(found[1], total, **TOLERANCE)


@pytest.mark.parametrize("shift", [False, True])
def test_skip_layer_norm_needs_no_shift(shift: bool) -> None:
    inputs = {"x": normal(2, 3, 8), "skip": normal(2, 3, 8, seed=1)}
    constants = {"w": normal(8, seed=2), **({"beta": normal(8, seed=3)} if shift else {})}
    node = helper.make_node(
        "SkipLayerNormalization",
        ["x", "skip", *constants],
        ["y"],
        domain="com.microsoft",
    )
    model = graph_model([node], inputs, ["y"], constants=constants)
    total = inputs["x"].astype(np.float64) + inputs["skip"]
    centred = total - total.mean(axis=-1, keepdims=True)
    expected = rms(centred, 1e-5) * constants["w"] + constants.get("beta", 0)
    found = run_lowered(lowered(model), list(inputs.values()))
    np.testing.assert_allclose(found[0], expected, **TOLERANCE)


@pytest.mark.parametrize(
    "attrs", [{}, {"scale": 0.5}, {"log": 1}, {"axis": 1, "scale": 2.0, "log": 1}], ids=str
)
def test_custom_softmax_agrees_with_the_formula(attrs: dict[str, Any]) -> None:
    x = normal(2, 5, 7)
    node = helper.make_node("Softmax", ["x"], ["y"], domain="effcompile", **attrs)
    program = lowered(graph_model([node], {"x": x}, ["y"]))
    assert operators(program) == ["softmax"]
    axis = attrs.get("axis", -1)
    raised = np.exp(x.astype(np.float64) * attrs.get("scale", 1.0))
    expected = raised / raised.sum(axis=axis, keepdims=True)
    expected = np.log(expected) if attrs.get("log") else expected
    np.testing.assert_allclose(run_lowered(program, [x])[0], expected, **TOLERANCE)


def test_half_precision_softmax_sums_in_single_precision() -> None:
    # 4096 equal terms: a float16 sum of them stops growing at 2048.
    x = np.zeros((1, 4096), dtype=np.float16)
    node = helper.make_node("Softmax", ["x"], ["y"], axis=-1)
    types = {"y": TensorProto.FLOAT16}
    model = graph_model([node], {"x": x}, ["y"], output_types=types)
    np.testing.assert_allclose(run_lowered(lowered(model), [x])[0], 1 / 4096, rtol=1e-3)


def test_one_decorator_adds_an_operator() -> None:
    @registry.converter("TwiceForTest", domain="effcompile")
    def twice(node: registry.Node) -> Any:
        from tvm import relax

        return relax.op.add(node.required(0), node.required(0))

    x = normal(2, 3)
    node = helper.make_node("TwiceForTest", ["x"], ["y"], domain="effcompile")
    found = run_lowered(lowered(graph_model([node], {"x": x}, ["y"])), [x])
    np.testing.assert_array_equal(found[0], 2 * x)


def test_equal_names_in_two_domains_do_not_meet() -> None:
    # com.microsoft::Gelu and Gelu share a name; scale and log exist in one Softmax only.
    x = normal(2, 3)
    nodes = [
        helper.make_node("Softmax", ["x"], ["h"], domain="effcompile", log=1),
        helper.make_node("Softmax", ["h"], ["y"]),
    ]
    found = run_lowered(lowered(graph_model(nodes, {"x": x}, ["y"])), [x])
    raised = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(found[0], raised / raised.sum(axis=-1, keepdims=True), **TOLERANCE)


def test_four_bit_initialiser_keeps_its_values() -> None:
    values = np.arange(-8, 8).reshape(4, 4)
    constants = {
        "w": quantised(TensorProto.INT4, values, "w"),
        "s": np.array(0.5, dtype=np.float32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"]),
        helper.make_node("Add", ["x", "d"], ["y"]),
    ]
    x = np.zeros((4, 4), dtype=np.float32)
    found = run_lowered(lowered(graph_model(nodes, {"x": x}, ["y"], constants=constants)), [x])
    np.testing.assert_array_equal(found[0], values / 2)


def test_bfloat16_weights_are_kept() -> None:
    import ml_dtypes

    weight = normal(3).astype(ml_dtypes.bfloat16)
    tensor = numpy_helper.from_array(weight, "w")
    nodes = [
        helper.make_node("Cast", ["w"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    x = normal(2, 3)
    found = run_lowered(lowered(graph_model(nodes, {"x": x}, ["y"], constants={"w": tensor})), [x])
    np.testing.assert_array_equal(found[0], x + weight.astype(np.float32))


def test_batch_norm_without_convolution_is_one_multiplication_and_addition() -> None:
    constants = {name: normal(4, seed=i) for i, name in enumerate(["g", "b", "m"])}
    constants["v"] = np.abs(normal(4, seed=9)) + 0.5
    node = helper.make_node("BatchNormalization", ["x", "g", "b", "m", "v"], ["y"], epsilon=1e-2)
    inputs = {"x": normal(2, 4, 3, 3)}
    model = graph_model([node], inputs, ["y"], constants=constants)
    agrees_with_reference(model, inputs)
    names = {variable.name_hint for variable, _ in lowered(model).module.functions_items()}
    assert names == {"main", "fused_multiply_add"}


def test_dropout_vanishes() -> None:
    nodes = [
        helper.make_node("Dropout", ["x", "ratio"], ["h"]),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    inputs = {"x": normal(2, 4)}
    constants = {"ratio": np.array(0.5, dtype=np.float32)}
    model = graph_model(nodes, inputs, ["y"], constants=constants)
    agrees_with_reference(model, inputs)
    names = {variable.name_hint for variable, _ in lowered(model).module.functions_items()}
    assert names == {"main", "relu"}


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("op_type", ["LayerNormalization", "RMSNormalization"])
def test_norms_agree_with_the_reference(op_type: str, axis: int) -> None:
    shape = (8,) if axis == -1 else (3, 8)
    constants = {"w": normal(*shape, seed=1)}
    node = helper.make_node(op_type, ["x", "w"], ["y"], axis=axis, epsilon=1e-3)
    inputs = {"x": normal(2, 3, 8)}
    agrees_with_reference(graph_model([node], inputs, ["y"], constants=constants), inputs)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("zeros", [False, True])
def test_stored_weights_before_few_rows_are_packed_for_tensor_cores(bits: int, zeros: bool) -> None:
    depth, n_columns, block = 96, 21, 32
    rng = np.random.default_rng(bits)
    values = rng.integers(0, 2**bits, (n_columns, depth // block, block)).astype(np.uint8)
    scales = rng.uniform(0.1, 1, values.shape[:2]).astype(np.float16)
    points = np.full(values.shape[:2], 2 ** (bits - 1), np.uint8)
    constants = {"w": pack_stream(values, bits), "s": scales}
    if zeros:
        points = rng.integers(0, 2**bits, values.shape[:2]).astype(np.uint8)
        constants["z"] = pack_stream(points, bits)
    x = normal(2, 3, depth).astype(np.float16)
    node = helper.make_node(
        "DequantMatMul",
        ["x", *constants],
        ["y"],
        domain="effcompile",
        K=depth,
        N=n_columns,
        bits=bits,
        block_size=block,
    )
    program = lowered(graph_model([node], {"x": x}, ["y"], constants=constants))
    assert operators(program) == ["gemv_dequant"]
    wide = (values.astype(np.float64) - points[..., None]) * scales[..., None].astype(np.float64)
    expected = x.astype(np.float64) @ wide.reshape(n_columns, depth).T
    (found,) = run_lowered(program, [x])
    # One rounding to float16 of sums kept in float32.
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())

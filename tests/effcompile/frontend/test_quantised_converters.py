"""Products with quantised matrices, and their unpacking, against their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from effcompile.errors import BadModel
from schedules.packing import pack_stream
from tests.effcompile.lowered_models import (
    TOLERANCE,
    assert_as_reference,
    graph_model,
    lowered,
    normal,
    operators,
    run_lowered,
)


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
    program = assert_as_reference(model, inputs)
    assert operators(program) == ["dequant_matmul" if block else "gemv_dequant"]


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
    assert_as_reference(graph_model([node], inputs, ["y"]), inputs)


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

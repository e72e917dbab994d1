"""Quantised operators, and operators that ONNX defines by others, against ONNX's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tests.effcompile.lowered_models import graph_model, lowered, run_lowered

RNG = np.random.default_rng(0)
UINT8, INT8 = TensorProto.UINT8, TensorProto.INT8


def scalar(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def whole(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max + 1, shape).astype(dtype)


def run_one(
    node: Any, inputs: dict[str, np.ndarray], constants: dict[str, np.ndarray], output: int
) -> tuple[np.ndarray, Any]:
    model = graph_model([node], inputs, ["y"], constants=constants, output_types={"y": output})
    (found,) = run_lowered(lowered(model), list(inputs.values()))
    return found, model


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
def test_quantised_convolution_gives_the_same_integers(per_channel: bool, has_bias: bool) -> None:
    scales = RNG.uniform(0.001, 0.01, 6).astype(np.float32) if per_channel else scalar(0.004)
    constants = {
        **{"xs": scalar(0.02), "xz": np.uint8(117), "w": whole(6, 2, 3, 3, dtype=np.int8)},
        **{"ws": scales, "wz": np.zeros(scales.shape, np.int8)},
        **{"ys": scalar(0.11), "yz": np.uint8(130), "b": RNG.integers(-500, 500, 6, np.int32)},
    }
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", *(["b"] if has_bias else [])]
    node = helper.make_node("QLinearConv", names, ["y"], pads=[1, 1, 1, 1], strides=[2, 2], group=2)
    if not has_bias:
        del constants["b"]
    x = whole(1, 4, 9, 9)
    found, model = run_one(node, {"x": x}, constants, UINT8)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    assert found.dtype == np.uint8 and expected.std() > 10
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_quantised_product_gives_the_same_integers(dtype: type) -> None:
    constants = {
        **{"as": scalar(0.05), "az": dtype(12), "b": whole(32, 8, dtype=dtype)},
        **{"bs": scalar(0.03), "bz": dtype(7), "ys": scalar(1.3), "yz": dtype(40)},
    }
    node = helper.make_node("QLinearMatMul", ["a", "as", "az", "b", "bs", "bz", "ys", "yz"], ["y"])
    a = whole(5, 32, dtype=dtype)
    found, model = run_one(node, {"a": a}, constants, UINT8 if dtype is np.uint8 else INT8)
    (expected,) = ReferenceEvaluator(model).run(None, {"a": a})
    np.testing.assert_array_equal(found, expected)


def test_integer_convolution_is_exact() -> None:
    x, constants = whole(1, 3, 7, 7), {"w": whole(4, 3, 3, 3), "xz": np.uint8(9)}
    node = helper.make_node("ConvInteger", ["x", "w", "xz"], ["y"], pads=[1, 1, 1, 1])
    found, model = run_one(node, {"x": x}, constants, TensorProto.INT32)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_array_equal(found, expected)


def real(values: np.ndarray, scale: float, zero: int) -> np.ndarray:
    return (values.astype(np.float64) - zero) * scale


def stored(values: np.ndarray, scale: float, zero: int) -> np.ndarray:
    return np.clip(np.rint(values / scale) + zero, 0, 255).astype(np.uint8)


def test_quantised_sum_of_com_microsoft() -> None:
    a, b = whole(3, 8), whole(3, 8)
    constants = {
        **{"as": scalar(0.5), "az": np.uint8(3), "bs": scalar(0.25), "bz": np.uint8(100)},
        **{"ys": scalar(0.75), "yz": np.uint8(60)},
    }
    names = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"]
    node = helper.make_node("QLinearAdd", names, ["y"], domain="com.microsoft")
    found, _ = run_one(node, {"a": a, "b": b}, constants, UINT8)
    np.testing.assert_array_equal(found, stored(real(a, 0.5, 3) + real(b, 0.25, 100), 0.75, 60))


@pytest.mark.parametrize("transposed", [0, 1])
def test_quantised_general_product_of_com_microsoft(transposed: int) -> None:
    a, b = whole(4, 16), whole(8, 16)
    points = RNG.integers(90, 110, 8).astype(np.uint8)
    bias = RNG.integers(-4000, 4000, 8, np.int32)
    constants = {
        **{"as": scalar(0.5), "az": np.uint8(100), "b": b if transposed else b.T.copy()},
        **{"bs": np.full(8, 0.25, np.float32), "bz": points},
        **{"c": bias, "ys": scalar(32.0), "yz": np.uint8(128)},
    }
    names = ["a", "as", "az", "b", "bs", "bz", "c", "ys", "yz"]
    node = helper.make_node("QGemm", names, ["y"], domain="com.microsoft", transB=transposed)
    found, _ = run_one(node, {"a": a}, constants, UINT8)
    sums = real(a, 0.5, 100) @ (b - points[:, None].astype(float)).T * 0.25 + bias * 0.125
    np.testing.assert_array_equal(found, stored(sums, 32.0, 128))


@pytest.mark.parametrize("op_type", ["QLinearGlobalAveragePool", "QLinearSigmoid"])
def test_quantised_operators_of_one_input(op_type: str) -> None:
    x = whole(1, 3, 4, 4)
    constants = {
        **{"xs": scalar(0.0625), "xz": np.uint8(128), "ys": scalar(0.03125), "yz": np.uint8(64)},
    }
    node = helper.make_node(op_type, ["x", "xs", "xz", "ys", "yz"], ["y"], domain="com.microsoft")
    found, _ = run_one(node, {"x": x}, constants, UINT8)
    values = real(x, 0.0625, 128)
    pooled = values.mean((2, 3), keepdims=True)
    result = pooled if op_type.endswith("Pool") else 1 / (1 + np.exp(-values))
    assert np.abs(found.astype(int) - stored(result, 0.03125, 64)).max() <= 1


def test_quantised_parts_are_joined() -> None:
    a, b = whole(2, 3), whole(2, 4)
    constants = {
        **{"ys": scalar(0.5), "yz": np.uint8(20), "as": scalar(0.25), "az": np.uint8(10)},
        **{"bs": scalar(0.5), "bz": np.uint8(30)},
    }
    names = ["ys", "yz", "a", "as", "az", "b", "bs", "bz"]
    node = helper.make_node("QLinearConcat", names, ["y"], domain="com.microsoft", axis=1)
    found, _ = run_one(node, {"a": a, "b": b}, constants, UINT8)
    joined = np.concatenate([real(a, 0.25, 10), real(b, 0.5, 30)], 1)
    np.testing.assert_array_equal(found, stored(joined, 0.5, 20))


def test_operators_defined_by_others_need_no_converter() -> None:
    x = RNG.standard_normal((3, 5)).astype(np.float32)
    node = helper.make_node("Celu", ["x"], ["y"], alpha=1.5)
    found, model = run_one(node, {"x": x}, {}, TensorProto.FLOAT)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

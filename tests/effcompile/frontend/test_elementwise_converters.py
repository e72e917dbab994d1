"""Elementwise operators and casts against their definitions."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.effcompile.lowered_models import (
    TOLERANCE,
    assert_as_reference,
    graph_model,
    lowered,
    normal,
    run_lowered,
)


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
    assert_as_reference(graph_model([node], inputs, ["y"]), inputs)


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
    assert_as_reference(graph_model([node], inputs, ["y"], output_types=types), inputs)


def test_bfloat16_weights_are_kept() -> None:
    weight = normal(3).astype(ml_dtypes.bfloat16)
    tensor = numpy_helper.from_array(weight, "w")
    nodes = [
        helper.make_node("Cast", ["w"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    x = normal(2, 3)
    found = run_lowered(lowered(graph_model(nodes, {"x": x}, ["y"], constants={"w": tensor})), [x])
    np.testing.assert_array_equal(found[0], x + weight.astype(np.float32))


def test_dropout_vanishes() -> None:
    nodes = [
        helper.make_node("Dropout", ["x", "ratio"], ["h"]),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    inputs = {"x": normal(2, 4)}
    constants = {"ratio": np.array(0.5, dtype=np.float32)}
    model = graph_model(nodes, inputs, ["y"], constants=constants)
    program = assert_as_reference(model, inputs)
    names = {variable.name_hint for variable, _ in program.module.functions_items()}
    assert names == {"main", "relu"}

"""Norms and softmax against their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.effcompile.lowered_models import (
    TOLERANCE,
    assert_as_reference,
    graph_model,
    lowered,
    normal,
    operators,
    run_lowered,
)


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


def test_batch_norm_without_convolution_is_one_multiplication_and_addition() -> None:
    constants = {name: normal(4, seed=i) for i, name in enumerate(["g", "b", "m"])}
    constants["v"] = np.abs(normal(4, seed=9)) + 0.5
    node = helper.make_node("BatchNormalization", ["x", "g", "b", "m", "v"], ["y"], epsilon=1e-2)
    inputs = {"x": normal(2, 4, 3, 3)}
    model = graph_model([node], inputs, ["y"], constants=constants)
    program = assert_as_reference(model, inputs)
    names = {variable.name_hint for variable, _ in program.module.functions_items()}
    assert names == {"main", "fused_multiply_add"}


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("op_type", ["LayerNormalization", "RMSNormalization"])
def test_norms_agree_with_the_reference(op_type: str, axis: int) -> None:
    shape = (8,) if axis == -1 else (3, 8)
    constants = {"w": normal(*shape, seed=1)}
    node = helper.make_node(op_type, ["x", "w"], ["y"], axis=axis, epsilon=1e-3)
    inputs = {"x": normal(2, 3, 8)}
    assert_as_reference(graph_model([node], inputs, ["y"], constants=constants), inputs)

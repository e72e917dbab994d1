"""Expansion and reshaping where some extents are only known when the model runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper
from onnx.reference import ReferenceEvaluator

from tests.effcompile.lowered_models import graph_model, lowered, run_lowered


def opened(nodes: list[Any], constants: dict[str, np.ndarray]) -> Any:
    """A model of ``x (N, 3, 4)`` with one output ``y``."""
    model = graph_model(nodes, {"x": np.zeros((2, 3, 4), np.float32)}, ["y"], constants=constants)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    return model


def agrees_at_several_sizes(model: Any) -> None:
    program = lowered(model, allow_open=True)
    for size in (1, 2, 5):
        x = np.random.default_rng(size).standard_normal((size, 3, 4)).astype(np.float32)
        (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
        np.testing.assert_array_equal(run_lowered(program, [x])[0], expected)


def test_expansion_leaves_open_extents_alone() -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["wide"]),
        helper.make_node("Expand", ["wide", "shape"], ["y"]),
    ]
    constants = {"axis": np.array([2]), "shape": np.array([1, 5, 1])}
    agrees_at_several_sizes(opened(nodes, constants))


def test_a_shape_is_calculated_from_an_open_extent() -> None:
    """As attention merges batch and heads: ``view(N * heads, ...)``."""
    nodes = [
        helper.make_node("Shape", ["x"], ["extent"], start=0, end=1),
        helper.make_node("Squeeze", ["extent"], ["scalar"]),
        helper.make_node("Mul", ["scalar", "heads"], ["product"]),
        helper.make_node("Reshape", ["product", "one"], ["first"]),
        helper.make_node("Concat", ["first", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
    ]
    constants = {"heads": np.array(3), "one": np.array([-1]), "rest": np.array([2, 2])}
    agrees_at_several_sizes(opened(nodes, constants))

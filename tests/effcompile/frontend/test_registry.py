"""Operators and their converters find each other by domain and name."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from effcompile.frontend.converters import registry
from tests.effcompile.lowered_models import (
    TOLERANCE,
    graph_model,
    lowered,
    normal,
    run_lowered,
)


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

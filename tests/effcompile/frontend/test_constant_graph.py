"""Values of a graph that are known before any input is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from effcompile.frontend import constant_graph
from effcompile.frontend.constant_graph import ConstantGraph


def model() -> Any:
    """``left = c + c * c``, ``right = c * c - c`` and a sum with an input."""
    nodes = [
        helper.make_node("Mul", ["c", "c"], ["square"]),
        helper.make_node("Add", ["c", "square"], ["left"]),
        helper.make_node("Sub", ["square", "c"], ["right"]),
        helper.make_node("Add", ["left", "x"], ["y"]),
        helper.make_node("RandomNormal", [], ["noise"], shape=[2]),
    ]
    stored = [numpy_helper.from_array(np.array([2.0, 3.0], np.float32), "c")]
    return helper.make_model(helper.make_graph(nodes, "g", [], [], initializer=stored))


def test_what_follows_from_constants_alone_is_known() -> None:
    graph = ConstantGraph(model())
    assert [graph.is_known(name) for name in ("c", "left", "right", "x", "y", "noise")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    left, right = graph.value("left"), graph.value("right")
    assert left is not None and right is not None
    np.testing.assert_array_equal(left, [6.0, 12.0])
    np.testing.assert_array_equal(right, [2.0, 6.0])


def test_a_value_of_several_readers_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated, computed = constant_graph.evaluated, []

    def counted(node: Any, *given: Any) -> np.ndarray | None:
        computed.append(node.output[0])
        return evaluated(node, *given)

    monkeypatch.setattr(constant_graph, "evaluated", counted)
    graph = ConstantGraph(model())
    for name in ("left", "right", "square"):
        assert graph.value(name) is not None
    assert computed == ["square", "left", "right"]


def test_what_the_evaluator_cannot_compute_has_no_value() -> None:
    broken = model()
    broken.graph.node[0].op_type = "NoSuchOperator"
    assert ConstantGraph(broken).value("left") is None

"""Operators that pick or part elements, against their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from tests.effcompile.lowered_models import (
    graph_model,
    lowered,
    normal,
    run_lowered,
)


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


def test_one_hot_has_the_dtype_of_its_values() -> None:
    places = np.array([[0, 2, -1]])
    node = helper.make_node("OneHot", ["i", "depth", "values"], ["y"], axis=1)
    constants = {"depth": np.array(4), "values": np.array([0.5, 2], np.float32)}
    model = graph_model([node], {"i": places}, ["y"], constants=constants)
    (found,) = run_lowered(lowered(model), [places])
    (expected,) = ReferenceEvaluator(model).run(None, {"i": places})
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)

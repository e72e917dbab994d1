"""Resized images against ONNX's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tests.effcompile.lowered_models import (
    assert_as_reference,
    graph_model,
    lowered,
    normal,
    run_lowered,
)


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
    assert_as_reference(graph_model([node], {"x": x}, ["y"], constants=constants), {"x": x})


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

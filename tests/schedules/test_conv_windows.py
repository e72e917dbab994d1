"""Convolutions of overlapping windows: which they are, their space, and their emulated program."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schedules.conv_problem import convolution_of
from schedules.conv_windows import ConvWindowsSpace, conv_windows_space
from schedules.conv_windows_cuda import launch
from schedules.conv_windows_layout import box_pieces
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.conv_workloads import STEM, Conv, conv_expected, conv_workload
from tests.schedules.cuda_emulation import computed, normal_inputs
from tests.schedules.products import built_point

pytestmark = pytest.mark.timeout(120)

PLAIN = {
    "box_height": 1,
    "tile_column": 16,
    "multipliers": 1,
    "stages": 2,
    "blocks_per_core": 1,
}


def _space(conv: Conv, target: str = "h200") -> ConvWindowsSpace | None:
    return conv_windows_space(Task(workload=conv_workload(conv), target=known_target(target)))


def test_windows_one_piece_apart_are_covered() -> None:
    assert _space(STEM) is not None
    assert _space(STEM, "a100") is None


@pytest.mark.parametrize(
    "conv",
    [
        Conv(height=8, width=8, channels=16, filters=16),
        Conv(height=16, width=16, channels=8, filters=16, kernel=4, padding=(0,) * 4),
        Conv(height=16, width=22, channels=4, filters=16, kernel=4, stride=4, padding=(0,) * 4),
        Conv(height=16, width=22, channels=4, filters=16, kernel=6, stride=2, padding=(3, 0, 4, 0)),
    ],
    ids=["many_channels", "no_window", "no_overlap", "half_a_step_of_terms"],
)
def test_others_are_not(conv: Conv) -> None:
    assert _space(conv) is None


def test_rows_are_copied_in_the_longest_equal_parts() -> None:
    problem = convolution_of(conv_workload(STEM))
    assert problem is not None and box_pieces(problem) == 23


def test_impossible_points_are_refused() -> None:
    space = _space(STEM)
    assert space is not None
    good = {**PLAIN, "box_height": 4, "tile_column": 64, "multipliers": 2}
    assert space.refusal(good) is None
    for bad in (
        {"tile_column": 128},
        {"blocks_per_core": 4},
        {"multipliers": 3, "blocks_per_core": 2},
        {"box_height": 1, "multipliers": 3},
        {"box_height": 8, "stages": 4, "blocks_per_core": 2},
    ):
        assert space.refusal({**good, **bad}) is not None, bad


def test_the_fewest_blocks_that_need_no_more_turns() -> None:
    space = _space(STEM)
    assert space is not None
    schedule = space.schedule({**PLAIN, "box_height": 4, "tile_column": 64, "blocks_per_core": 2})
    # 448 boxes on 264 places are two turns.
    assert schedule.n_blocks == 224


SMALL = Conv(height=8, width=14, channels=4, filters=16, kernel=8, stride=2, padding=(3, 0, 4, 0))
EMULATED: dict[str, tuple[Conv, dict[str, int]]] = {
    "rows_left_over": (SMALL, {"box_height": 3}),
    "images_filters_residual": (
        Conv(
            images=3,
            height=9,
            width=20,
            channels=4,
            filters=40,
            kernel=4,
            stride=2,
            padding=(1, 0, 2, 0),
            ending="residual",
        ),
        {"box_height": 2, "tile_column": 32, "multipliers": 2},
    ),
    "long_rows_bfloat16": (
        Conv(
            images=2,
            height=5,
            width=140,
            channels=4,
            filters=20,
            kernel=8,
            stride=2,
            padding=(3, 0, 4, 0),
            dtype="bfloat16",
        ),
        {"multipliers": 2},
    ),
    "long_lines": (
        Conv(height=20, width=40, channels=4, filters=8, kernel=16, stride=2, padding=(0,) * 4),
        {},
    ),
}


@pytest.mark.parametrize("name", EMULATED)
def test_emulated(name: str, tmp_path: Path) -> None:
    conv, changed = EMULATED[name]
    space = _space(conv)
    assert space is not None
    values = {**PLAIN, **changed}
    assert space.refusal(values) is None, space.refusal(values)
    problem, workload = space._problem, space._workload
    inputs = normal_inputs(workload)
    # Few blocks, so that each has several turns of its stages.
    few = replace(space.schedule(values), n_blocks=1)
    found = computed([launch(problem, few)], workload, inputs, tmp_path)
    tolerance = 2e-2 if conv.dtype == "bfloat16" else 5e-3
    wanted = conv_expected(conv, inputs)
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=10 * tolerance)


def test_the_best_estimate_is_machine_code_without_spills(tmp_path: Path) -> None:
    space = _space(STEM)
    assert space is not None
    values = space.points[int(np.argmin(space.estimates))]
    built = built_point(space, values, tmp_path, decoded=True)
    (kernel,) = built.stats.kernels
    assert kernel.spill_bytes == 0 and kernel.mix.tensor_macs > 0


def test_features_are_finite() -> None:
    space = _space(STEM)
    assert space is not None
    rows = space.features(space.sample(5, np.random.default_rng(0)))
    assert rows.shape[0] == 5 and np.isfinite(rows).all()

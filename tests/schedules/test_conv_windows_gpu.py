"""Convolutions of overlapping windows on the GPU: every kind, every decision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schedules.conv_windows import ConvWindowsSpace, conv_windows_space
from schedules.knobs import Value
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.conv_workloads import STEM, Conv, conv_workload
from tests.schedules.test_conv_gpu import run_point

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

SMALL = Conv(
    images=3,
    height=15,
    width=30,
    channels=4,
    filters=40,
    kernel=4,
    stride=2,
    padding=(1, 0, 2, 0),
    ending="residual",
)
PLAIN: dict[str, Value] = {
    "box_height": 1,
    "tile_column": 32,
    "multipliers": 1,
    "stages": 2,
    "blocks_per_core": 1,
}


def _space(conv: Conv) -> ConvWindowsSpace:
    task = Task(workload=conv_workload(conv), target=known_target("h100"))
    space = conv_windows_space(task)
    assert space is not None
    return space


@pytest.mark.parametrize(
    "conv",
    [
        SMALL,
        Conv(height=20, width=40, channels=4, filters=24, kernel=16, stride=2, padding=(0,) * 4),
        Conv(
            height=9,
            width=142,
            channels=4,
            filters=64,
            kernel=8,
            stride=2,
            padding=(3, 0, 4, 0),
            dtype="bfloat16",
        ),
    ],
    ids=str,
)
def test_kinds(conv: Conv, tmp_path: Path) -> None:
    run_point(conv, _space(conv), PLAIN, tmp_path)


def test_random_points(tmp_path: Path) -> None:
    stem = replace(STEM, images=2)
    space = _space(stem)
    for candidate in space.sample(6, np.random.default_rng(0)):
        run_point(stem, space, space.values_of(candidate), tmp_path)

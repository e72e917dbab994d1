"""The kernel text of the packed product, run on the CPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from schedules.gemv_dequant import GemvDequantSpace
from schedules.inputs import make_data
from schedules.reference import compare, tolerance_of
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.gemv_emulation import emulate
from tests.schedules.gemv_workloads import gemv_workload

MOST_THREADS = 128
# (rows, columns, depth, bits, block), dtype, zeros, bias
PROBLEMS = [
    ((1, 16, 256, 4, 64), "float16", False, False),
    ((16, 48, 512, 3, 64), "bfloat16", True, True),
    ((9, 50, 130, 8, 64), "bfloat16", True, False),
    ((5, 7, 300, 2, 32), "float16", True, True),
]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_random_points_are_right_and_stay_inside_their_memory(
    problem: tuple[tuple[int, ...], str, bool, bool], tmp_path: Path
) -> None:
    sizes, dtype, zeros, bias = problem
    workload = gemv_workload(*sizes, dtype=dtype, zeros=zeros, bias=bias)
    space = GemvDequantSpace(Task(workload=workload, target=known_target("h200")))
    small = [one for one in space.points if space.schedule(one).n_threads <= MOST_THREADS]
    point = small[int(np.random.default_rng(0).integers(len(small)))]
    data = make_data(workload, 3)
    found, fault = emulate(space, point, data.inputs, tmp_path)
    assert fault == 0, point
    assert compare(found, data.references[0].values, tolerance_of(workload)) is None, point

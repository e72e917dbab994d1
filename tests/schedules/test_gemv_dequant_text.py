"""The kernel text of the packed product, run on the CPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from schedules.gemv_dequant import GemvDequantSpace
from schedules.inputs import make_data
from schedules.reference import compare, compute_reference, tolerance_of
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


@pytest.mark.timeout(60)
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_rows_of_any_size_keep_their_accuracy(tmp_path: Path) -> None:
    """x becomes whole numbers, scaled by chunks: large, tiny, uneven, empty rows and no numbers."""
    workload = gemv_workload(6, 16, 256, 4, 128, dtype="bfloat16")
    space = GemvDequantSpace(Task(workload=workload, target=known_target("h200")))
    point = {
        "warps_k": 2,
        "warps_n": 1,
        "blocks_per_core": 1,
        "blocks_k": 1,
        "in_flight": 1,
        "bulk": 1,
    }
    data = make_data(workload, 3)
    x = data.inputs[0].astype(np.float32)
    ordinary = data.references[0].values.copy()
    x[0] *= 2.0**100
    x[1] *= 2.0**-90
    x[2, 7] = 2.0**12
    x[3] = 0.0
    x[4, 200] = np.nan
    x[5, 3] = np.inf
    inputs = [x.astype(data.inputs[0].dtype), *data.inputs[1:]]
    found, fault = emulate(space, point, inputs, tmp_path)
    assert fault == 0
    y = found.astype(np.float64)
    np.testing.assert_allclose(y[0] * 2.0**-100, ordinary[0], rtol=0.02, atol=0.02)
    np.testing.assert_allclose(y[1] * 2.0**90, ordinary[1], rtol=0.02, atol=0.02)
    with np.errstate(invalid="ignore"):
        (expected,) = compute_reference(workload, inputs)
    np.testing.assert_allclose(y[2], expected[2], rtol=0.01, atol=0.01)
    assert (y[3] == 0.0).all()
    assert np.isnan(y[4:]).all()

"""Products that unpack a matrix in registers, run on the CPU: where codes and sums go."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.gemm_fused_cuda import FusedSchedule, endings_of, launches
from schedules.gemv_dequant_problem import gemv_problem
from schedules.inputs import make_data
from schedules.product_ending import partial_sums
from schedules.reference import compare, tolerance_of
from tests.schedules.cuda_emulation import emulate
from tests.schedules.gemv_workloads import gemv_workload

PLAIN: dict[str, Any] = {
    "multipliers": 1,
    "tile_column": 16,
    "stages": 2,
    "blocks_per_core": 1,
    "group": 1,
    "splits": 1,
    "cluster": 1,
    "ahead": 2,
    "turns": False,
}
# (rows, columns, depth, bits, block), what else, decisions
CASES: list[tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]] = [
    (
        (40, 150, 200, 4, 64),
        {"zeros": True, "residual": True},
        {"cluster": 2, "group": 2, "multipliers": 2, "n_blocks": 2, "stages": 3, "turns": True},
    ),
    ((24, 24, 328, 3, 64), {"dtype": "bfloat16", "gated": True, "activation": "silu"}, {}),
    ((17, 40, 200, 8, 96), {"zeros": True}, {"splits": 2, "tile_column": 32, "ahead": 4}),
    ((17, (40, 16, 7), 136, 2, 32), {"zeros": True, "bias": True}, {}),
]


@pytest.mark.timeout(60)
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize(("sizes", "rest", "changed"), CASES, ids=[str(case) for case in CASES])
def test_emulated(
    sizes: tuple[Any, ...], rest: dict[str, Any], changed: dict[str, Any], tmp_path: Path
) -> None:
    workload = gemv_workload(*sizes, **rest)
    problem = gemv_problem(workload)
    assert problem is not None
    schedule = FusedSchedule(**{**PLAIN, **changed})
    data = make_data(workload, 3)
    names = [spec.name for spec in workload.inputs]
    arrays = dict(zip(names, data.inputs, strict=True))
    for spec, reference in zip(workload.outputs, data.references, strict=True):
        arrays[spec.name] = np.full(spec.shape, np.nan, data.inputs[0].dtype)
        assert reference.values.shape == spec.shape
    for contraction in endings_of(problem):
        for spec in partial_sums(contraction, schedule.splits):
            arrays[spec.name] = np.full(spec.shape, np.nan, np.float32)
    assert emulate(launches(problem, schedule), arrays, tmp_path) == 0
    for spec, reference in zip(workload.outputs, data.references, strict=True):
        assert compare(arrays[spec.name], reference.values, tolerance_of(workload)) is None

"""Products of many rows with packed matrices: the unpacked matrix, the points, machine code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effcompile.measure.cache import DiskCache
from effcompile.measure.libraries import LibraryMaker
from schedules.dtypes import numpy_dtype
from schedules.gemm_dequant import GemmDequantSpace, matrix_of, unpack_launch
from schedules.gemv_dequant_problem import gemv_problem
from schedules.inputs import make_inputs
from schedules.packing import unpack_codes, unpack_groups
from schedules.spaces import spaces_for
from schedules.target import Target, known_target
from schedules.task import Task
from tests.schedules.cuda_emulation import emulate
from tests.schedules.gemv_workloads import gemv_workload

HOPPER = known_target("h200")


@pytest.mark.timeout(60)
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize(
    ("bits", "dtype", "block", "zeros"),
    [
        (2, "float16", 32, True),
        (3, "bfloat16", 128, True),
        (4, "float16", 64, False),
        (8, "bfloat16", 520, True),
    ],
)
def test_the_unpacked_matrix(
    bits: int, dtype: str, block: int, zeros: bool, tmp_path: Path
) -> None:
    workload = gemv_workload(128, 40, 520, bits, block, dtype=dtype, zeros=zeros)
    problem = gemv_problem(workload)
    assert problem is not None
    inputs = dict(zip(problem.inputs.values(), make_inputs(workload, 1), strict=True))
    spec = matrix_of(problem)
    found = np.full(spec.shape, np.nan, numpy_dtype(spec.dtype))
    assert emulate([unpack_launch(problem)], {**inputs, spec.name: found}, tmp_path) == 0
    size = {"n_columns": spec.shape[0]}
    codes = unpack_codes(inputs["codes"], bits, depth=520, **size).astype(np.float64)
    points = unpack_groups(inputs["zeros"], **size) if zeros else np.array([[2 ** (bits - 1)]])
    scales = unpack_groups(inputs["scales"], **size).astype(np.float64)
    spread = [np.repeat(one.astype(np.float64), block, axis=1)[:, :520] for one in (points, scales)]
    expected = (codes - (spread[0] if zeros else points)) * spread[1]
    np.testing.assert_array_equal(found.astype(np.float64), expected.astype(found.dtype))


def test_many_rows_are_unpacked_and_multiplied(gpu: Target, cpu: Target) -> None:
    def spaces(rows: int, **rest: Any) -> list[str]:
        workload = gemv_workload(rows, 256, 512, 4, 128, **rest)
        return spaces_for(Task(workload=workload, target=HOPPER))

    assert spaces(512)[0] == "gemm_dequant"
    assert spaces(32)[:2] == ["gemv_dequant", "gemm_dequant"]
    assert "gemm_dequant" not in spaces(16) + spaces(512, dtype="float32")
    assert "gemm_dequant" not in spaces(512, gated=True) + spaces(512, x_scales="row")


@pytest.mark.parametrize(("bits", "device"), [(3, "h200"), (4, "h200"), (4, "a100")])
def test_points_become_machine_code(bits: int, device: str, tmp_path: Path) -> None:
    target = known_target(device)
    workload = gemv_workload(
        512, 1000, 1024, bits, 128, zeros=True, bias=True, residual=True, activation="silu"
    )
    space = GemmDequantSpace(Task(workload=workload, target=target))
    maker = LibraryMaker(
        target=target, cache=DiskCache(tmp_path / "cache"), folder=tmp_path, fast_math=True
    )
    (chosen,) = space.sample(1, np.random.default_rng(0))
    build = maker.make(space.realise(chosen), flops=None, unique_bytes=None)
    n_units = 63 * (4 if bits == 3 else 16)
    assert build.stats.kernels[0].grid == (-(-n_units // 8), 1, 1)
    assert all(kernel.spill_bytes == 0 for kernel in build.stats.kernels)

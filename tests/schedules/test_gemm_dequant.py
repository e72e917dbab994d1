"""Products of many rows with packed matrices: the unpacked matrix, the points, machine code."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.dtypes import numpy_dtype
from schedules.gemm_dequant import GemmDequantSpace
from schedules.gemm_dequant_cuda import matrices_of, unpack_launch
from schedules.gemv_dequant_problem import gemv_problem
from schedules.inputs import make_inputs
from schedules.packing import UNIT_DEPTH, unpack_codes, unpack_groups
from schedules.spaces import spaces_for
from schedules.target import Target, known_target
from schedules.task import Task
from tests.schedules.building import built
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
        (4, "float32", 128, True),
    ],
)
def test_the_unpacked_matrix(
    bits: int, dtype: str, block: int, zeros: bool, tmp_path: Path
) -> None:
    workload = gemv_workload(128, 40, 520, bits, block, dtype=dtype, zeros=zeros)
    problem = gemv_problem(workload)
    assert problem is not None
    inputs = dict(zip(problem.inputs.values(), make_inputs(workload, 1), strict=True))
    (spec,) = matrices_of(problem)
    found = np.full(spec.shape, np.nan, numpy_dtype(spec.dtype))
    assert emulate([unpack_launch(problem)], {**inputs, spec.name: found}, tmp_path) == 0
    size = {"n_columns": spec.shape[0]}
    codes = unpack_codes(inputs["codes"], bits, depth=520, **size).astype(np.float64)
    points = unpack_groups(inputs["zeros"], **size) if zeros else np.array([[2 ** (bits - 1)]])
    scales = unpack_groups(inputs["scales"], **size).astype(np.float64)
    spread = [np.repeat(one.astype(np.float64), block, axis=1)[:, :520] for one in (points, scales)]
    expected = (codes - (spread[0] if zeros else points)) * spread[1]
    np.testing.assert_array_equal(found.astype(np.float64), expected.astype(found.dtype))


@pytest.mark.timeout(60)
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize("gated", [True, False])
def test_joined_matrices_are_taken_apart(gated: bool, tmp_path: Path) -> None:
    columns = 40 if gated else (40, 16, 7)
    workload = gemv_workload(128, columns, 64, 4, 64, gated=gated)
    problem = gemv_problem(workload)
    assert problem is not None
    inputs = dict(zip(problem.inputs.values(), make_inputs(workload, 1), strict=True))
    specs = matrices_of(problem)
    found = {one.name: np.full(one.shape, np.nan, np.float16) for one in specs}
    assert emulate([unpack_launch(problem)], {**inputs, **found}, tmp_path) == 0
    size = {"n_columns": problem.n_tiles * 16}
    codes = unpack_codes(inputs["codes"], 4, depth=64, **size).astype(np.float64) - 8
    whole = codes * unpack_groups(inputs["scales"], **size).astype(np.float64)
    tiles = whole.reshape(-1, 16, 64)
    if gated:
        expected = [tiles[:, :8].reshape(-1, 64), tiles[:, 8:].reshape(-1, 64)]
    else:
        parts = [tiles[first:end] for first, end in pairwise(problem.first_tiles)]
        expected = [part.reshape(-1, 64) for part in parts]
    for one, wanted in zip(specs, expected, strict=True):
        np.testing.assert_array_equal(found[one.name], wanted.astype(np.float16))


def test_many_rows_are_unpacked_and_multiplied(gpu: Target, cpu: Target) -> None:
    def spaces(rows: int, **rest: Any) -> list[str]:
        workload = gemv_workload(rows, 256, 512, 4, 128, **rest)
        return spaces_for(Task(workload=workload, target=HOPPER))

    assert spaces(512)[0] == "gemm_dequant"
    assert spaces(32)[:2] == ["gemv_dequant", "gemm_dequant"]
    assert spaces(512, dtype="float32")[0] == "gemm_dequant"
    assert "gemm_dequant" not in spaces(16)
    assert "gemm_dequant" in spaces(512, gated=True)
    assert "gemm_dequant" not in spaces(512, x_scales="row")
    assert "gemm_dequant" not in spaces(512, gated=True, bias=True)


def test_several_products_are_launches_of_one_program(tmp_path: Path) -> None:
    for columns, rest in (((512, 128), {"bias": True}), (512, {"gated": True, "residual": True})):
        workload = gemv_workload(512, columns, 256, 4, 64, **rest)
        space = GemmDequantSpace(Task(workload=workload, target=HOPPER))
        (chosen,) = space.sample(1, np.random.default_rng(0))
        build = built(space.realise(chosen), HOPPER, tmp_path)
        assert len(build.stats.kernels) == 3


@pytest.mark.parametrize(("bits", "device"), [(3, "h200"), (4, "h200"), (4, "a100"), (8, "h200")])
def test_points_become_machine_code(bits: int, device: str, tmp_path: Path) -> None:
    target = known_target(device)
    dtype = "float32" if bits == 8 else "float16"
    workload = gemv_workload(
        512, 1000, 1024, bits, 128, dtype=dtype, zeros=True, bias=True, residual=True
    )
    space = GemmDequantSpace(Task(workload=workload, target=target))
    (chosen,) = space.sample(1, np.random.default_rng(0))
    build = built(space.realise(chosen), target, tmp_path)
    n_units = 63 * 1024 // UNIT_DEPTH[bits]
    assert build.stats.kernels[0].grid == (-(-n_units // 8), 1, 1)
    assert all(kernel.spill_bytes == 0 for kernel in build.stats.kernels)

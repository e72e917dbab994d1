"""Kernels as the search generates them: decoded work must add up to the workload's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effcompile.measure import nvrtc, toolkit
from effcompile.measure.cache import DiskCache
from effcompile.measure.libraries import LibraryMaker
from schedules import _tvm
from schedules.counts import flops_of, unique_bytes_of
from schedules.programs import workload_of
from schedules.spaces import open_space
from schedules.stats import KernelStats
from schedules.target import known_target
from schedules.task import Task

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not toolkit.include_dirs() or nvrtc.in_process() is None, reason="no CUDA compiler"
    ),
]

N = 512
TARGET = known_target("h200")


def _task(dtype: str) -> Task:
    _tvm.load()
    from tvm import te, topi

    a, b = (te.placeholder((N, N), dtype, name=name) for name in "AB")
    function = te.create_prim_func([a, b, topi.nn.matmul(a, b, out_dtype=dtype)])
    return Task(workload=workload_of(function, name="matmul", op="generic"), target=TARGET)


def _builds(task: Task, folder: Path) -> list[KernelStats]:
    from effcompile.measure.driver_stub import prepare_driver

    prepare_driver()
    _tvm.load_intrinsics("cuda")
    folder.mkdir()
    maker = LibraryMaker(target=TARGET, cache=DiskCache(folder), folder=folder, fast_math=True)
    space = open_space(task, "tvm")
    counts: dict[str, Any] = {
        "flops": flops_of(task.workload),
        "unique_bytes": unique_bytes_of(task.workload),
    }
    candidates = space.sample(4, np.random.default_rng(0))
    return [maker.make(space.realise(one), **counts).stats for one in candidates]


def _total(stats: KernelStats, name: str, *, of_lanes: bool = False) -> float:
    total = 0.0
    for kernel in stats.kernels:
        assert kernel.mix is not None
        threads = math.prod(kernel.block)
        warps = threads / 32 if of_lanes else math.ceil(threads / 32)
        total += getattr(kernel.mix, name) * math.prod(kernel.grid) * warps
    return total


def test_every_multiply_add_of_a_tensor_core_product_is_found(tmp_path: Path) -> None:
    for stats in _builds(_task("float16"), tmp_path / "half"):
        assert _total(stats, "tensor_macs") == N**3
        assert _total(stats, "global_store_bytes", of_lanes=True) == N * N * 2
        assert _total(stats, "other") == 0


def test_every_multiply_add_of_a_product_without_tensor_cores_is_found(tmp_path: Path) -> None:
    for stats in _builds(_task("float32"), tmp_path / "single"):
        assert _total(stats, "fp32") * 32 == pytest.approx(N**3, rel=0.01)
        assert _total(stats, "global_store_bytes", of_lanes=True) == N * N * 4

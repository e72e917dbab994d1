"""Tensor-core candidates whose shared memory is more than a kernel gets without asking."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from effcompile.config import MeasureConfig
from effcompile.measure import nvrtc, toolkit
from effcompile.measure.cache import DiskCache
from effcompile.measure.driver_stub import prepare_driver
from effcompile.measure.libraries import LibraryMaker
from effcompile.measure.runner import DeviceRunner
from schedules import _tvm
from schedules.generic import TvmSpace
from schedules.limits import GRANTED_SHARED_BYTES, require_launchable
from schedules.programs import workload_of
from schedules.stats import KernelResources
from schedules.target import Target, known_target
from schedules.task import Task
from search.trial import Build, LatencyMeasurement

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not toolkit.include_dirs() or not nvrtc._has_bindings(), reason="no CUDA compiler"
    ),
]
SIZE = 1024


def product(target: Target) -> Task:
    """Half-precision operands, single-precision result: elements of two sizes are staged."""
    prepare_driver()
    _tvm.load()
    from tvm import te, topi

    a, b = (te.placeholder((SIZE, SIZE), "float16", name=name) for name in "ab")
    function = te.create_prim_func([a, b, topi.nn.matmul(a, b, out_dtype="float32")])
    return Task(workload=workload_of(function, name="product"), target=target)


def builds(task: Task, folder: Path, enough: Callable[[list[Build]], bool]) -> list[Build]:
    """Candidates drawn and built until there are enough."""
    space = TvmSpace(task)
    maker = LibraryMaker(
        target=task.target, cache=DiskCache(folder / "cache"), folder=folder, fast_math=True
    )
    made: list[Build] = []
    for seed in range(1, 60):
        candidate = space.draw(seed)
        if candidate is not None:
            # As another process realises it, from its decisions alone.
            module = TvmSpace(task).realise(candidate)
            made.append(maker.make(module, flops=None, unique_bytes=None))
        if enough(made):
            return made
    raise AssertionError(f"{len(made)} candidates were not enough")


def kernel_of(build: Build) -> KernelResources:
    (kernel,) = build.stats.kernels
    return kernel


def is_large(build: Build) -> bool:
    return kernel_of(build).dynamic_shared_bytes > GRANTED_SHARED_BYTES


def test_every_tensor_core_candidate_may_be_launched(tmp_path: Path) -> None:
    task = product(known_target("h200"))
    made = builds(task, tmp_path, lambda made: len(made) == 3)
    for build in made:
        assert kernel_of(build).static_shared_bytes == 0
        assert kernel_of(build).dynamic_shared_bytes > 0
        require_launchable(build.stats, task.target)


@pytest.mark.gpu
@pytest.mark.timeout(300)
def test_a_large_one_runs_and_is_right(tmp_path: Path) -> None:
    from effcompile.measure.environment import detect_target

    task = product(detect_target("cuda"))
    made = builds(task, tmp_path / "libraries", lambda made: any(map(is_large, made)))
    runner = DeviceRunner(task.target, MeasureConfig(meter="none"), work_dir=tmp_path)
    found: dict[str, Any] = {one.binary_id: runner.time(task, one) for one in made}
    runner.close()
    wrong = {name: one for name, one in found.items() if not isinstance(one, LatencyMeasurement)}
    assert not wrong, wrong

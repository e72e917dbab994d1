"""Tensor-core candidates whose shared memory is more than a kernel gets without asking."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from effcompile.config import MeasureConfig
from effcompile.measure import nvrtc, toolkit
from effcompile.measure.cache import DiskCache
from effcompile.measure.driver_stub import prepare_driver
from effcompile.measure.launch_geometry import LoweringWatch
from effcompile.measure.libraries import LibraryMaker
from effcompile.measure.runner import DeviceRunner
from schedules import _tvm
from schedules.generic import TvmSpace
from schedules.limits import GRANTED_SHARED_BYTES, require_launchable
from schedules.lowering import pipeline
from schedules.programs import workload_of
from schedules.target import Target, known_target
from schedules.task import Task
from search.trial import Build, LatencyMeasurement

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not toolkit.include_dirs() or nvrtc.in_process() is None, reason="no CUDA compiler"
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


def realised(task: Task) -> Iterator[Any]:
    """Candidates drawn one after the other, as another process realises them."""
    space = TvmSpace(task)
    for seed in range(1, 120):
        candidate = space.draw(seed)
        if candidate is not None:
            yield TvmSpace(task).realise(candidate)


def built(task: Task, folder: Path, module: Any) -> Build:
    maker = LibraryMaker(
        target=task.target, cache=DiskCache(folder / "cache"), folder=folder, fast_math=True
    )
    return maker.make(module, flops=None, unique_bytes=None)


def dynamic_shared_bytes(task: Task, module: Any) -> int:
    """What a launch asks for; one in ten is large, so nothing is compiled to find out."""
    tvm, target = _tvm.load(), _tvm.tvm_target(task.target)
    bound = tvm.tirx.transform.BindTarget(target)(module)
    watch = LoweringWatch()
    with target, tvm.transform.PassContext(opt_level=3, instruments=[watch.instrument()]):
        tvm.tirx.get_tir_pipeline(pipeline())[0](bound)
    (launch,) = watch.launches
    return launch.dynamic_shared_bytes


def test_every_tensor_core_candidate_may_be_launched(tmp_path: Path) -> None:
    task = product(known_target("h200"))
    for module in islice(realised(task), 3):
        build = built(task, tmp_path, module)
        (kernel,) = build.stats.kernels
        assert kernel.static_shared_bytes == 0
        assert kernel.dynamic_shared_bytes == dynamic_shared_bytes(task, module) > 0
        require_launchable(build.stats, task.target)


@pytest.mark.gpu
@pytest.mark.timeout(120)
def test_a_large_one_runs_and_is_right(tmp_path: Path) -> None:
    from effcompile.measure.environment import detect_target

    task = product(detect_target("cuda"))
    large = next(
        module
        for module in realised(task)
        if dynamic_shared_bytes(task, module) > GRANTED_SHARED_BYTES
    )
    runner = DeviceRunner(task.target, MeasureConfig(meter="none"), work_dir=tmp_path)
    found = runner.time(task, built(task, tmp_path / "libraries", large))
    runner.close()
    assert isinstance(found, LatencyMeasurement), found

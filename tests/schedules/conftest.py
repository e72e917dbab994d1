"""Small workloads and targets that the tests of this folder share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules import _tvm
from schedules.candidate import Candidate
from schedules.inputs import make_inputs
from schedules.lowering import pipeline
from schedules.programs import workload_of
from schedules.reference import compare, compute_reference, tolerance_of
from schedules.target import Target, known_target
from schedules.task import Task
from schedules.workload import Attribute, Workload
from tests.plain_target import plain_target

CPU = Target(kind="llvm", arch="x86-64-v3", name="test CPU", n_cores=2)


@pytest.fixture(scope="session")
def cpu() -> Target:
    return CPU


@pytest.fixture(scope="session")
def gpu() -> Target:
    return known_target("h200")


@pytest.fixture(scope="session")
def describe() -> Callable[..., Workload]:
    """Turns a function from placeholders to a tensor into a workload."""

    def make(
        build: Callable[..., Any],
        *arguments: tuple[tuple[int, ...], str],
        op: str = "generic",
        **attrs: Attribute,
    ) -> Workload:
        _tvm.load()
        from tvm import te

        names = "ABCDEF"
        places = [te.placeholder(s, d, name=names[i]) for i, (s, d) in enumerate(arguments)]
        function = te.create_prim_func([*places, build(*places)])
        return workload_of(function, name=build.__name__, op=op, attrs=attrs)

    return make


@pytest.fixture(scope="session")
def matmul(describe: Callable[..., Workload]) -> Callable[..., Workload]:
    def make(m: int, n: int, k: int, dtype: str = "float32", out: str | None = None) -> Workload:
        from tvm import topi

        def matmul(a: Any, b: Any) -> Any:
            return topi.nn.matmul(a, b, out_dtype=out or dtype)

        return describe(matmul, ((m, k), dtype), ((k, n), dtype))

    return make


@pytest.fixture(scope="session")
def softmax() -> Callable[..., Workload]:
    from tests.schedules.softmax_workloads import plain

    return plain


@pytest.fixture(scope="session")
def run_on_cpu() -> Callable[..., str | None]:
    """Builds a module for the CPU, runs it on the given or seeded inputs, compares."""

    def run(workload: Workload, module: Any, inputs: list[np.ndarray] | None = None) -> str | None:
        tvm = _tvm.load()
        target = plain_target(CPU)
        with target:
            library = tvm.compile(module, target=target)
        inputs = make_inputs(workload, seed=1) if inputs is None else inputs
        specs = (*workload.inputs, *workload.outputs)
        tensors = [tvm.runtime.empty(spec.shape, spec.dtype) for spec in specs]
        for tensor, array in zip(tensors, inputs, strict=False):
            tensor.copyfrom(array)
        library["main"](*tensors)
        outputs = [tensor.numpy() for tensor in tensors[len(inputs) :]]
        tolerance = tolerance_of(workload)
        pairs = zip(outputs, compute_reference(workload, inputs), strict=True)
        faults = [compare(output, reference, tolerance) for output, reference in pairs]
        return next((fault for fault in faults if fault is not None), None)

    return run


@pytest.fixture
def cuda_source(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The CUDA source of a module; needs no GPU and no driver."""

    def make(module: Any, target: Target) -> str:
        monkeypatch.setitem(os.environ, "TVM_COMPILE_FORCE_FALLBACK", "1")
        tvm = _tvm.load()
        tvm_target = _tvm.tvm_target(target)
        with tvm_target:
            library = tvm.compile(module, target=tvm_target, tir_pipeline=pipeline())
        return str(library.mod.imports[0].inspect_source())

    return make


@pytest.fixture(scope="module")
def card() -> Target:
    """The GPU that is there; for tests marked ``gpu``."""
    from effcompile.measure.environment import detect_target

    return detect_target("cuda")


@pytest.fixture(scope="module")
def run_on_gpu(
    card: Target, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., list[str]]]:
    """Builds, checks and times candidates as tuning does; gives what was wrong with each."""
    from effcompile.config import BuildConfig, MeasureConfig
    from effcompile.measure.builder import ProcessBuilder
    from effcompile.measure.runner import DeviceRunner
    from search.trial import Build, LatencyMeasurement

    folder: Path = tmp_path_factory.mktemp("gpu")
    # Few: pytest-xdist may run many of these side by side.
    build_config = BuildConfig(cache_dir=str(folder / "cache"), n_workers=2)
    builder = ProcessBuilder(build_config, work_dir=folder)
    config = MeasureConfig(repeat_ms=0.5, n_repeats=3, meter="none")
    runner = DeviceRunner(card, config, work_dir=folder)

    def fault(task: Task, candidate: Candidate, build: Any) -> str | None:
        if not isinstance(build, Build):
            return f"{candidate.decisions}: not built: {build.message}"
        measured = runner.time(task, build)
        if not isinstance(measured, LatencyMeasurement):
            return f"{candidate.decisions}: {measured.state}: {measured.message}"
        print(f"{task.workload.name}: {measured.latency_us:.1f} us {candidate.decisions}")
        return None

    def run(workload: Workload, candidates: Sequence[Candidate]) -> list[str]:
        task = Task(workload=workload, target=card)
        builds = [builder.submit(task, candidate) for candidate in candidates]
        pairs = zip(candidates, builds, strict=True)
        found = [fault(task, candidate, build.result()) for candidate, build in pairs]
        return [one for one in found if one is not None]

    yield run
    runner.close()
    builder.close()


@pytest.fixture(scope="session")
def task_of() -> Callable[[Workload, Target], Task]:
    return lambda workload, target: Task(workload=workload, target=target)

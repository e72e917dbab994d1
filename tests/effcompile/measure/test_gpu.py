"""The CUDA paths on a real GPU: graphs, faults, energy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effcompile.config import BuildConfig, MeasureConfig
from effcompile.measure.builder import ProcessBuilder
from effcompile.measure.cache import DiskCache
from effcompile.measure.environment import detect_target, fingerprint
from effcompile.measure.libraries import LibraryMaker
from effcompile.measure.runner import DeviceRunner
from schedules import _tvm
from schedules.candidate import Candidate
from schedules.task import Task
from search.ports import FinalEffort, FinalMeasurement
from search.trial import Build, Failure, LatencyMeasurement, TrialState, Verdict
from tests.effcompile.measure.kernels import N, twice_plus_one

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]
CONFIG = MeasureConfig(timeout_s=10.0)
DEFAULT = Candidate(space="default", decisions="{}")


@dataclass
class Bench:
    """A runner on the GPU, with the right kernel and a way to make others."""

    runner: DeviceRunner
    task: Task
    right: Build
    make: Callable[[Any], Build]
    folder: Path

    def assert_healthy(self) -> None:
        assert isinstance(self.runner.time(self.task, self.right), LatencyMeasurement)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder: Path = tmp_path_factory.mktemp("run")
    target = detect_target("cuda")
    task = Task(workload=twice_plus_one().workload, target=target)
    settings = BuildConfig(n_workers=1, cache_dir=str(folder / "cache"))
    builder = ProcessBuilder(settings, work_dir=folder)
    right = builder.submit(task, DEFAULT).result()
    builder.close()
    assert isinstance(right, Build), right
    runner = DeviceRunner(target, CONFIG, work_dir=folder, build_config=settings)
    maker = LibraryMaker(
        target=target, cache=DiskCache(folder / "own"), folder=folder / "own", fast_math=False
    )
    tvm = _tvm.load()

    def make(function: Any) -> Build:
        module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
        return maker.make(module, flops=None, unique_bytes=None)

    yield Bench(runner, task, right, make, folder)
    runner.close()


def faulty_kernels() -> dict[str, Any]:
    from tvm.script import tirx as T  # noqa: N812

    far = 1 << 40

    with _tvm.fast_parsing():

        @T.prim_func(s_tir=True)
        def hang(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
            for i in T.thread_binding(N, thread="threadIdx.x"):
                # Depends on data, so that no compiler may prove what it computes.
                y[i] = T.min(x[i], T.float32(0.5))
                while y[i] < T.float32(1):
                    y[i] = y[i] * T.float32(0.5)

        @T.prim_func(s_tir=True)
        def illegal_address(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
            for i in T.thread_binding(N, thread="threadIdx.x"):
                y[T.Cast("int64", i) + T.int64(far)] = x[i]

        @T.prim_func(s_tir=True)
        def writes_behind(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
            for i in T.thread_binding(N, thread="threadIdx.x"):
                y[i] = x[i] * T.float32(2) + T.float32(1)
                y[i + N] = x[i]

    return {
        "hang": hang,
        "illegal_address": illegal_address,
        "writes_behind": writes_behind,
    }


def test_the_gpu_is_described(bench: Bench) -> None:
    target = bench.task.target
    assert target.kind == "cuda"
    assert target.arch.startswith("sm_")
    assert target.shared_memory_per_block_bytes >= 48 * 1024
    assert target.cache_bytes > 1 << 20
    facts = fingerprint(target)
    assert facts["gpu_uuid"].startswith("GPU-")
    assert facts["driver"]


def test_launches_are_timed_as_a_graph(bench: Bench) -> None:
    measured = bench.runner.time(bench.task, bench.right)
    assert isinstance(measured, LatencyMeasurement), measured
    assert measured.method == "graph"
    assert measured.verdict is Verdict.OK
    # A thousand elements: launch overhead inside a graph, about one to ten microseconds.
    assert 0.3 < measured.latency_us < 50


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("writes_behind", TrialState.WRONG_RESULT),
        ("illegal_address", TrialState.RUN_ERROR),
        ("hang", TrialState.RUN_TIMEOUT),
    ],
)
def test_a_faulty_kernel_costs_one_trial(bench: Bench, name: str, state: TrialState) -> None:
    bench.assert_healthy()
    found = bench.runner.time(bench.task, bench.make(faulty_kernels()[name]))
    assert isinstance(found, Failure)
    assert found.state is state, found.message
    bench.assert_healthy()


# Workers of pytest-xdist load the GPU for each other.
needs_the_gpu_alone = pytest.mark.skipif(
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1,
    reason="needs the GPU for itself: run it without -n",
)


@needs_the_gpu_alone
def test_energy_has_a_number_or_a_reason(bench: Bench) -> None:
    measured = bench.runner.measure_energy(bench.task, bench.right)
    if not bench.runner.measures_energy:
        assert measured.energy_mj is None
        assert measured.reason
        return
    assert measured.meter == "nvml"
    assert measured.verdict.usable, measured.reason
    assert measured.energy_mj is not None and measured.power_w is not None
    assert measured.sustained_latency_us is not None
    # Watts times microseconds are microjoules.
    assert measured.energy_mj == pytest.approx(
        measured.power_w * measured.sustained_latency_us / 1000
    )
    assert 30 < measured.power_w < 1500
    assert 0.98 * 300 <= measured.window_ms <= 1.1 * CONFIG.energy_window_ms
    assert measured.load_ms >= measured.window_ms
    assert measured.anchor_mj is not None
    assert 0.95 < measured.drift < 1.05
    assert measured.n_steps >= 3
    assert measured.conditions.clock_mhz


@needs_the_gpu_alone
def test_the_meter_is_calibrated_before_the_first_window(bench: Bench) -> None:
    if not bench.runner.measures_energy:
        pytest.skip("no energy meter")
    bench.runner.measure_energy(bench.task, bench.right)
    facts = bench.runner.meter.facts
    assert facts is not None
    assert facts.anchor_mj is not None and facts.repeatability is not None, facts
    assert 5 < facts.period_ms < 200, facts
    assert facts.repeatability < 0.03, facts
    # Idle before load, idle after it, and load: in this order.
    assert facts.idle_cold_w is not None and facts.idle_hot_w is not None, facts
    assert facts.anchor_power_w is not None and facts.anchor_power_w > facts.idle_cold_w, facts


@needs_the_gpu_alone
def test_measurements_of_one_kernel_agree(bench: Bench) -> None:
    if not bench.runner.measures_energy:
        pytest.skip("no energy meter")
    found = [bench.runner.measure_energy(bench.task, bench.right) for _ in range(4)]
    values = [one.energy_mj for one in found if one.energy_mj is not None]
    shown = [(one.energy_mj, one.power_w, one.sustained_latency_us, one.reason) for one in found]
    assert len(values) == len(found), shown
    # The kernel takes about a microsecond: any gap between launches shows here.
    assert np.ptp(values) < 0.04 * float(np.mean(values)), shown


def test_finalists_are_interleaved(bench: Bench) -> None:
    first, second = bench.runner.compare(
        bench.task, [bench.right, bench.right], FinalEffort(n_rounds=3, n_energy_rounds=3)
    )
    assert isinstance(first, FinalMeasurement) and isinstance(second, FinalMeasurement)
    # The same kernel against itself.
    assert np.median(second.latency_ratios) == pytest.approx(1.0, abs=0.1)


def test_cold_takes_longer_than_hot_for_a_kernel_bound_by_memory(tmp_path: Path) -> None:
    tvm = _tvm.load()
    from schedules.programs import workload_of

    n_elements = 1 << 22
    x = tvm.te.placeholder((n_elements,), name="x", dtype="float32")
    y = tvm.te.compute((n_elements,), lambda i: x[i] * 2.0, name="y")
    workload = workload_of(tvm.te.create_prim_func([x, y]), name="copy")
    target = detect_target("cuda")
    task = Task(workload=workload, target=target)
    builder = ProcessBuilder(BuildConfig(n_workers=1), work_dir=tmp_path)
    build = builder.submit(task, DEFAULT).result()
    builder.close()
    assert isinstance(build, Build), build
    latencies = {}
    for cache in ("hot", "cold"):
        runner = DeviceRunner(target, MeasureConfig(cache=cache, meter="none"), work_dir=tmp_path)
        measured = runner.time(task, build)
        runner.close()
        assert isinstance(measured, LatencyMeasurement), measured
        latencies[cache] = measured.latency_us
    assert latencies["cold"] > latencies["hot"]

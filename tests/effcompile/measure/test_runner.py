from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effcompile.config import BuildConfig, MeasureConfig
from effcompile.measure.environment import cpu_target
from effcompile.measure.runner import DeviceRunner
from schedules.task import Task
from search.ports import FinalEffort, FinalMeasurement
from search.trial import Build, Failure, LatencyMeasurement, TrialState, Verdict
from tests.effcompile.measure.kernels import library_builder, make_kernels, twice_plus_one

pytestmark = pytest.mark.slow
CONFIG = MeasureConfig(n_repeats=5, repeat_ms=0.5, timeout_s=2.0, meter="none")


@dataclass
class Bench:
    """A runner with every kernel built."""

    runner: DeviceRunner
    task: Task
    builds: dict[str, Build]

    def time(self, name: str) -> LatencyMeasurement | Failure:
        return self.runner.time(self.task, self.builds[name])

    def assert_healthy(self) -> None:
        assert isinstance(self.time("right"), LatencyMeasurement)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder: Path = tmp_path_factory.mktemp("run")
    kernels: dict[str, Any] = make_kernels()
    build = library_builder(folder)
    runner = DeviceRunner(
        cpu_target(),
        CONFIG,
        work_dir=folder,
        build_config=BuildConfig(cache_dir=str(folder / "cache")),
    )
    builds = {name: build(function) for name, function in kernels.items()}
    yield Bench(runner, twice_plus_one(), builds)
    runner.close()


def test_a_right_kernel_is_timed(bench: Bench) -> None:
    measured = bench.time("right")
    assert isinstance(measured, LatencyMeasurement)
    assert measured.latency_us > 0
    assert measured.n_repeats == 5
    assert (measured.method, measured.cache) == ("loop", "hot")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("constant", "elements are wrong"),
        ("nothing", "elements are wrong"),
        ("last_missing", "1 of 1000 elements are wrong"),
        ("nan", "1 of them NaN"),
        ("slightly", "elements are wrong"),
        ("adds_up", "elements are wrong"),
        ("changes_input", "changed its input x"),
        ("beyond_the_end", "wrote outside argument y"),
        ("before_the_start", "wrote outside argument y"),
    ],
)
def test_a_wrong_kernel_is_found_and_the_next_is_healthy(
    bench: Bench, name: str, words: str
) -> None:
    found = bench.time(name)
    assert isinstance(found, Failure)
    assert found.state is TrialState.WRONG_RESULT
    assert words in found.message
    bench.assert_healthy()


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("hang", TrialState.RUN_TIMEOUT),
        ("fork_and_hang", TrialState.RUN_TIMEOUT),
        ("crash", TrialState.RUN_ERROR),
        ("stop_process", TrialState.RUN_ERROR),
    ],
)
def test_a_faulty_kernel_costs_one_trial(bench: Bench, name: str, state: TrialState) -> None:
    found = bench.time(name)
    assert isinstance(found, Failure)
    assert found.state is state
    assert found.log_path is not None and Path(found.log_path).is_file()
    bench.assert_healthy()


def test_a_library_that_is_not_one_is_a_run_error(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "not.so"
    path.write_text("nothing")
    right = bench.builds["right"]
    broken = Build(
        library_path=str(path), binary_id="0", stats=right.stats, build_s=0.0, from_cache=False
    )
    found = bench.runner.time(bench.task, broken)
    assert isinstance(found, Failure)
    assert found.state is TrialState.RUN_ERROR
    bench.assert_healthy()


def test_a_device_process_killed_from_outside_is_replaced(bench: Bench) -> None:
    bench.assert_healthy()
    pid = bench.runner.device.child.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    bench.time("right")
    bench.assert_healthy()


def test_without_a_meter_energy_is_unmeasured_and_says_why(bench: Bench) -> None:
    assert not bench.runner.measures_energy
    energy = bench.runner.measure_energy(bench.task, bench.builds["right"])
    assert energy.energy_mj is None
    assert energy.verdict is Verdict.UNMEASURED
    assert "turned off" in energy.reason


def test_finalists_are_compared_and_a_wrong_one_drops_out(bench: Bench) -> None:
    builds = [bench.builds[name] for name in ("right", "constant", "right")]
    first, wrong, same = bench.runner.compare(
        bench.task, builds, FinalEffort(n_rounds=3, n_energy_rounds=3)
    )
    assert isinstance(first, FinalMeasurement) and isinstance(same, FinalMeasurement)
    assert isinstance(wrong, Failure)
    assert first.latency_ratios == (1.0, 1.0, 1.0)
    assert len(same.latency_ratios) == 3
    assert 0.1 < np.median(same.latency_ratios) < 10


def test_cold_rotates_over_copies(bench: Bench, tmp_path: Path) -> None:
    target = cpu_target()
    config = MeasureConfig(n_repeats=5, repeat_ms=0.5, cache="cold", meter="none")
    runner = DeviceRunner(target, config, work_dir=tmp_path)
    try:
        measured = runner.time(bench.task, bench.builds["right"])
    finally:
        runner.close()
    assert isinstance(measured, LatencyMeasurement)
    assert measured.cache == "cold"

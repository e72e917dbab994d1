"""Searching without a device: predictions in the place of measurements, marked as such."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from cost_models.device_models import DeviceModels
from schedules.candidate import Candidate
from schedules.stats import KernelStats
from schedules.task import Task
from search.comparison import ratio_of
from search.config import SearchConfig
from search.database import Database
from search.ports import FinalEffort, FinalMeasurement
from search.predicting import PREDICTED, PredictingRunner
from search.trial import Build, Failure, LatencyMeasurement
from search.tuner import tune
from search.winners import winners
from tests.device_rows import device_models, kernel
from tests.doubles import SimulatedSpace, knobs_of, make_task

EFFORT = FinalEffort(n_rounds=5, n_energy_rounds=5)


@pytest.fixture(scope="module")
def models() -> DeviceModels:
    return device_models()


@pytest.fixture(scope="module")
def runner(models: DeviceModels) -> PredictingRunner:
    return PredictingRunner(models, cache="hot")


def build_of(name: str, stats: KernelStats) -> Build:
    return Build(library_path=name, binary_id=name, stats=stats, build_s=0.1)


def stats_of(candidate: Candidate) -> KernelStats:
    if candidate.space == "default":
        return kernel(64.0, 30.0, 20.0)
    knobs = knobs_of(candidate)
    return kernel(64.0, 1.0 + 2.0 * knobs[0], 1.0 + 2.0 * knobs[1])


class KernelBuilder:
    def submit(self, task: Task, candidate: Candidate) -> Future[Build | Failure]:
        future: Future[Build | Failure] = Future()
        future.set_result(build_of(candidate.candidate_id, stats_of(candidate)))
        return future

    def close(self) -> None:
        pass


def test_every_number_says_that_it_is_predicted(runner: PredictingRunner) -> None:
    build = build_of("a", kernel(64.0, 5.0, 5.0))
    latency, energy = runner.time(make_task(), build), runner.measure_energy(make_task(), build)
    assert isinstance(latency, LatencyMeasurement)
    assert latency.method == energy.meter == PREDICTED
    assert (latency.n_repeats, energy.window_ms) == (0, 0.0)
    assert "never run" in energy.reason
    assert energy.energy_mj is not None
    assert energy.power_w is not None
    assert energy.energy_mj == pytest.approx(energy.power_w * latency.latency_us * 1e-3)


def test_nothing_is_predicted_of_a_kernel_that_nothing_is_known_of(
    runner: PredictingRunner,
) -> None:
    found = runner.time(make_task(), build_of("a", KernelStats()))
    assert isinstance(found, Failure)


def test_the_interval_of_a_ratio_is_that_of_the_error_between_candidates(
    runner: PredictingRunner, models: DeviceModels
) -> None:
    builds = [build_of(str(i), kernel(64.0, 4.0 * i + 1.0, 5.0)) for i in range(3)]
    found = runner.compare(make_task(), builds, EFFORT)
    first, _, last = found
    assert isinstance(first, FinalMeasurement)
    assert isinstance(last, FinalMeasurement)
    assert set(first.latency_ratios) == {1.0}
    ratio = ratio_of(last.latency_ratios)
    assert ratio is not None
    error = math.sqrt(2.0) * models.latency.within_error
    assert math.log(ratio.high / ratio.median) == pytest.approx(1.96 * error)
    assert ratio.median == pytest.approx(last.latency.latency_us / first.latency.latency_us)


def searched(runner: PredictingRunner, folder: Path, tasks: Sequence[Task]) -> Database:
    folder.mkdir()
    database = Database(folder)
    space = SimulatedSpace("knobs")
    tune(
        tasks,
        spaces=lambda task, name: space,
        space_names=lambda task: ["knobs"],
        builder=KernelBuilder(),
        runner=runner,
        database=database,
        config=SearchConfig(n_trials=60, round_size=15, energy_policy="measure_all"),
    )
    return database


def test_a_search_finds_the_kernel_with_least_work_twice(
    runner: PredictingRunner, tmp_path: Path
) -> None:
    config = SearchConfig()
    chosen = []
    for name in ("one", "two"):
        with searched(runner, tmp_path / name, [make_task()]) as database:
            (winner,) = winners(database, config).values()
            assert all(one.latency.method == PREDICTED for one in database.trials() if one.latency)
            knobs = knobs_of(winner.trial.candidate)
            chosen.append(winner.trial.candidate)
    assert chosen[0] == chosen[1]
    assert np.sum(knobs[:2]) <= 4

"""The next round is proposed while the one before it is measured."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.candidate import Candidate
from schedules.task import Task
from search.events import (
    EnergyMeasured,
    Event,
    RoundStarted,
)
from search.history import TaskHistory
from search.planner import ROUNDS_AHEAD
from search.random_search import RandomSearch
from search.stopping import StopRequest
from search.stored import Proposal
from search.trial import Build, EnergyMeasurement, Failure, Trial
from tests.doubles import (
    SimulatedBuilder,
    SimulatedRunner,
    SimulatedSpace,
    make_task,
)
from tests.search.tuner_bench import CONFIG, Bench


class SlowSpace(SimulatedSpace):
    """Proposing takes longer than everything else."""

    def sample(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        time.sleep(0.02)
        return super().sample(n, rng)


def five_tasks(bench: Bench, order: Any = "even") -> None:
    bench.tasks = [make_task(name, weight=2) for name in ("a", "b", "c", "d", "e")]
    bench.config = replace(CONFIG, task_order=order, n_trials=95, round_size=6)


class TestPlanningAhead:
    def test_what_is_proposed_does_not_depend_on_who_is_slow(
        self, bench: Bench, unbroken: list[Trial]
    ) -> None:
        # The device waits for proposals here, and proposals for the device in the other run.
        bench.new_space = SlowSpace
        bench.tune()
        assert [replace(trial, spent_s=0.0, loop_s=None) for trial in bench.trials()] == unbroken

    def test_a_round_is_proposed_without_the_results_of_the_one_before_it(
        self, bench: Bench
    ) -> None:
        asked: list[int] = []

        class Watched(RandomSearch):
            def propose(self, history: TaskHistory, *args: Any, **named: Any) -> list[Proposal]:
                asked.append(len(history.trials))
                return super().propose(history, *args, **named)

        bench.tasks, bench.names = bench.tasks[:1], ("knobs",)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("search.tuner.Evolutionary", lambda config: Watched())
            bench.tune()
        # The default alone is known to the second round; the first was begun before it.
        assert asked == [0, 1, 11, 21, 31, 41]

    def test_rounds_of_other_tasks_are_built_together(self, bench: Bench) -> None:
        held: list[tuple[Future[Build | Failure], Build | Failure]] = []

        class HoldsBack(SimulatedBuilder):
            def submit(self, task: Task, candidate: Candidate) -> Future[Build | Failure]:
                done = super().submit(task, candidate)
                if candidate.space == "default" or not holds:
                    return done
                held.append((Future(), done.result()))
                return held[-1][0]

        def release(event: Event) -> None:
            started = [one for one in bench.of(RoundStarted) if one.n_proposed]
            if len(started) == ROUNDS_AHEAD:
                holds.clear()
                while held:
                    future, outcome = held.pop()
                    future.set_result(outcome)

        holds = [True]
        five_tasks(bench)
        bench.builder = HoldsBack()
        bench.watch = release
        assert bench.tune() == "budget"

    @pytest.mark.parametrize("n_timed", [7, 16, 27, 60])
    @pytest.mark.parametrize("order", ["even", "saving"])
    def test_a_stopped_run_of_many_tasks_continues_as_if_never_stopped(
        self, tmp_path: Path, order: str, n_timed: int
    ) -> None:
        whole, broken = (Bench(tmp_path / name) for name in ("whole", "broken"))
        for one in (whole, broken):
            one.folder.mkdir()
            five_tasks(one, order)
        whole.new_space = SlowSpace
        whole.tune()
        broken.runner.on_time = lambda: (
            broken.stop.request() if len(broken.runner.timed) == n_timed else None
        )
        assert broken.tune() == "request"
        broken.stop = StopRequest()
        assert broken.tune() == "budget"
        expected, found = (
            [replace(trial, spent_s=0.0, loop_s=None) for trial in one.trials()]
            for one in (whole, broken)
        )
        assert found == expected

    def test_a_plan_that_is_done_does_not_wait_for_the_last_energy(self, bench: Bench) -> None:
        class SlowMeter(SimulatedRunner):
            def measure_energy(self, *args: Any, **named: Any) -> EnergyMeasurement:
                time.sleep(0.02)
                return super().measure_energy(*args, **named)

        bench.runner, bench.new_space = SlowMeter(), SlowSpace
        bench.config = replace(CONFIG, energy_policy="measure_all", energy_band=99.0)
        bench.tune()
        kinds = [type(one) for one in bench.seen if isinstance(one, (RoundStarted, EnergyMeasured))]
        between = [
            i
            for i in range(1, len(kinds) - 1)
            if kinds[i - 1 : i + 2] == [EnergyMeasured, RoundStarted, EnergyMeasured]
        ]
        assert between

    def test_tasks_that_take_turns_have_equally_many_rounds(self, bench: Bench) -> None:
        bench.config = replace(CONFIG, task_order="even", n_trials=62)
        bench.tune()
        started = [one.task.name for one in bench.of(RoundStarted) if one.n_proposed == 10]
        assert started == ["matmul", "softmax"] * 3

    @pytest.mark.parametrize(("order", "least"), [("even", 8), ("saving", 3)])
    def test_tasks_that_take_turns_have_whole_rounds_however_short_they_run(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, order: str, least: int
    ) -> None:
        monkeypatch.setattr("search.planner.cost_share", lambda *_: 0.001)
        bench.config = replace(CONFIG, task_order=order, n_trials=42, round_size=0)
        bench.tune()
        assert min(one.n_proposed for one in bench.of(RoundStarted)[:-1]) == least

    def test_a_plan_is_not_stored_where_defaults_took_the_rest_of_the_budget(
        self, bench: Bench
    ) -> None:
        bench.config = replace(CONFIG, n_trials=4)
        bench.runner.fault = lambda one: "crash" if len(bench.runner.timed) <= 2 else None
        assert bench.tune() == "budget"
        assert [trial.origin for trial in bench.trials()] == ["default"] * 4
        assert bench.of(RoundStarted) == []

    def test_a_first_round_is_the_same_planned_before_or_after_the_defaults(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        bench.config = replace(CONFIG, n_trials=9)
        bench.runner.fault = lambda one: "crash" if len(bench.runner.timed) <= 2 else None
        bench.tune()
        expected = [(trial.candidate, trial.state) for trial in bench.trials()]
        other = Bench(tmp_path / "other", config=bench.config)
        other.folder.mkdir()
        other.runner.fault = lambda one: "crash" if len(other.runner.timed) <= 2 else None
        other.runner.on_time = lambda: (
            other.stop.request() if len(other.runner.timed) == 4 else None
        )
        assert other.tune() == "request"
        other.stop = StopRequest()
        assert other.tune() == "budget"
        assert [(trial.candidate, trial.state) for trial in other.trials()] == expected
        assert len(expected) == 9

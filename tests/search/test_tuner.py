"""The loop on the simulated device."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from schedules.candidate import Candidate
from schedules.task import Task
from search.config import SearchConfig
from search.database import Database
from search.default_trials import DEFAULT_ATTEMPTS
from search.errors import DatabaseLocked, DefaultFailed, DeviceLost
from search.events import (
    EnergyMeasured,
    Event,
    RoundStarted,
    RunFinished,
    RunStarted,
    TaskFinished,
    TrialFinished,
)
from search.history import TaskHistory
from search.random_search import RandomSearch
from search.run_lock import run_lock
from search.stopping import StopRequest
from search.stored import Proposal
from search.trial import EnergyMeasurement, Trial, TrialState
from search.tuner import tune
from search.winners import winners
from tests.doubles import (
    SimulatedBuilder,
    SimulatedRunner,
    SimulatedSpace,
    energy_mj,
    faults_by_hash,
    latency_us,
    make_task,
)

CONFIG = SearchConfig(n_trials=60, round_size=10, population=24, energy_top=3, energy_random=1)


@dataclass
class Bench:
    """One run folder with its simulated device; ``tune`` may be called again and again."""

    folder: Path
    tasks: list[Task] = field(
        default_factory=lambda: [make_task("matmul", weight=3), make_task("softmax")]
    )
    config: SearchConfig = CONFIG
    builder: SimulatedBuilder = field(default_factory=SimulatedBuilder)
    runner: SimulatedRunner = field(default_factory=SimulatedRunner)
    names: tuple[str, ...] = ("knobs", "slow")
    new_space: Callable[[str], SimulatedSpace] = SimulatedSpace
    seen: list[Event] = field(default_factory=list)
    stop: StopRequest = field(default_factory=StopRequest)

    def tune(self) -> str:
        spaces: dict[tuple[str, str], SimulatedSpace] = {}
        with Database(self.folder) as database:
            return tune(
                self.tasks,
                spaces=lambda task, name: spaces.setdefault(
                    (task.task_id, name), self.new_space(name)
                ),
                space_names=lambda task: self.names,
                builder=self.builder,
                runner=self.runner,
                database=database,
                config=self.config,
                events=self.seen.append,
                stop=self.stop,
            )

    def trials(self) -> list[Trial]:
        with Database(self.folder, read_only=True) as database:
            return database.trials()

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.seen if isinstance(event, kind)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A finished run; tests only look at it."""
    bench = Bench(tmp_path_factory.mktemp("whole"))
    bench.runner.delay_s = 0.001
    assert bench.tune() == "budget"
    return bench


class TestWholeRun:
    def test_defaults_of_all_tasks_come_first_and_their_energy_is_known(self, whole: Bench) -> None:
        first, second = whole.trials()[:2]
        assert [first.origin, second.origin] == ["default", "default"]
        assert [first.task_id, second.task_id] == [task.task_id for task in whole.tasks]
        assert [one.space for one in whole.runner.timed[:2]] == ["default", "default"]
        assert [one.space for one in whole.runner.energies[:2]] == ["default", "default"]

    def test_the_budget_is_spent_exactly_on_distinct_candidates(self, whole: Bench) -> None:
        trials = whole.trials()
        assert [trial.trial_id for trial in trials] == list(range(1, 61))
        assert len({(t.task_id, t.candidate.candidate_id) for t in trials}) == 60

    def test_every_task_gets_a_winner_that_beats_its_default(self, whole: Bench) -> None:
        with Database(whole.folder, read_only=True) as database:
            found = winners(database, whole.config)
        assert set(found) == {task.task_id for task in whole.tasks}
        for winner in found.values():
            assert winner.final is not None
            assert winner.criterion == "energy"
            ratio = winner.final.winner.energy_ratio
            assert ratio is not None
            assert ratio.high < 1.0
            assert energy_mj(winner.trial.candidate) < energy_mj(winner.default.candidate)

    def test_only_candidates_near_the_best_get_an_energy_measurement(self, whole: Bench) -> None:
        measured = [one for one in whole.runner.energies if one.space != "default"]
        assert len(measured) == len(set(measured)) > 0
        n_rounds = len(whole.of(RoundStarted))
        assert len(measured) <= n_rounds * (whole.config.energy_top + whole.config.energy_random)
        latest = min(latency_us(one) for one in whole.runner.timed)
        assert all(latency_us(one) < 4.0 * latest for one in measured)

    def test_identical_binaries_are_measured_once(self, bench: Bench) -> None:
        bench.new_space = lambda name: SimulatedSpace(name, n_knobs=2)
        bench.tune()
        twins = [trial for trial in bench.trials() if trial.same_as is not None]
        assert twins
        by_id = {trial.trial_id: trial for trial in bench.trials()}
        for trial in twins:
            original = by_id[trial.same_as or 0]
            assert trial.build and original.build
            assert trial.build.binary_id == original.build.binary_id
            assert trial.latency == original.latency
        assert len(bench.runner.timed) == 60 - len(twins)

    def test_without_a_meter_latency_decides_and_no_energy_is_asked_for(self, bench: Bench) -> None:
        bench.runner.measures_energy = False
        bench.tune()
        assert bench.runner.energies == []
        with Database(bench.folder, read_only=True) as database:
            assert {w.criterion for w in winners(database, bench.config).values()} == {"latency"}

    def test_a_small_space_ends_the_run_early(self, bench: Bench) -> None:
        bench.new_space = lambda name: SimulatedSpace(name, n_knobs=1)
        bench.names = ("knobs",)
        assert bench.tune() == "exhausted"
        assert len(bench.trials()) == 2 * (1 + 8)
        with Database(bench.folder, read_only=True) as database:
            assert len(database.finals()) == 2

    def test_random_search_never_extracts_features_to_propose(self, bench: Bench) -> None:
        bench.config = replace(CONFIG, strategy="random")
        bench.runner.measures_energy = False
        spaces: list[SimulatedSpace] = []
        bench.new_space = lambda name: spaces.append(SimulatedSpace(name)) or spaces[-1]
        bench.tune()
        assert sum(space.n_feature_calls for space in spaces) == 0

    def test_events_tell_the_whole_story(self, bench: Bench) -> None:
        bench.builder.fault = bench.runner.fault = faults_by_hash
        bench.tune()
        assert isinstance(bench.seen[0], RunStarted)
        assert not bench.seen[0].resumed
        last = bench.seen[-1]
        assert isinstance(last, RunFinished)
        assert last.stopped_by == "budget"
        assert len(bench.of(TrialFinished)) == 60
        assert len(bench.of(TaskFinished)) == 2
        assert len(bench.of(EnergyMeasured)) == len(bench.runner.energies)
        counted = Counter(t.state.value for t in bench.trials() if t.state is not TrialState.OK)
        assert last.totals.failures == dict(counted)
        assert last.totals.n_trials == last.totals.n_planned == 60
        assert all(task.chosen_latency_us is not None for task in last.tasks)

    def test_a_session_accounts_for_its_time_and_joules(self, whole: Bench) -> None:
        with Database(whole.folder, read_only=True) as database:
            (session,) = database.sessions()
        assert (session.stopped_by, session.n_trials) == ("budget", 60)
        assert session.latency_s >= 0.05
        assert session.energy_s > 0.0
        assert session.model_s > 0.0
        assert session.window_energy_j is not None
        # Windows of half a second at 200 to 400 W each.
        assert 100.0 <= session.window_energy_j / (len(whole.runner.energies) + 6) <= 250.0


@pytest.fixture(scope="module")
def unbroken(whole: Bench) -> list[Trial]:
    return [replace(trial, spent_s=0.0) for trial in whole.trials()]


class TestResuming:
    def stop_after(self, whole: Bench, n_timed: int) -> None:
        def on_time() -> None:
            if len(whole.runner.timed) == n_timed:
                whole.stop.request()

        whole.runner.on_time = on_time

    @pytest.mark.parametrize("n_timed", [2, 7, 30])
    def test_a_stopped_run_continues_as_if_never_stopped(
        self, bench: Bench, unbroken: list[Trial], n_timed: int
    ) -> None:
        self.stop_after(bench, n_timed)
        assert bench.tune() == "request"
        finished = [trial for trial in bench.trials() if trial.state is not TrialState.PROPOSED]
        assert len(bench.runner.timed) == n_timed
        assert len(finished) >= n_timed
        bench.stop = StopRequest()
        assert bench.tune() == "budget"
        assert [replace(trial, spent_s=0.0) for trial in bench.trials()] == unbroken

    def test_a_second_start_of_a_finished_run_does_nothing(self, bench: Bench) -> None:
        bench.tune()
        n_timed, n_compared = len(bench.runner.timed), bench.runner.n_compared
        assert bench.tune() == "budget"
        assert (len(bench.runner.timed), bench.runner.n_compared) == (n_timed, n_compared)

    def test_a_larger_budget_adds_trials_and_new_finals(self, bench: Bench) -> None:
        bench.tune()
        before = bench.trials()
        bench.config = replace(CONFIG, n_trials=80)
        bench.tune()
        assert len(bench.trials()) == 80
        assert bench.trials()[:60] == before
        # One comparison per task at first, then one per task with new trials.
        n_searched = len({trial.task_id for trial in bench.trials()[60:]})
        assert bench.runner.n_compared == 2 + n_searched

    def test_a_run_stopped_after_the_defaults_has_winners(self, bench: Bench) -> None:
        self.stop_after(bench, 2)
        bench.tune()
        with Database(bench.folder, read_only=True) as database:
            found = winners(database, bench.config)
        assert [winner.trial.origin for winner in found.values()] == ["default", "default"]

    def test_time_that_is_used_up_stops_between_trials(self, bench: Bench) -> None:
        bench.config = replace(CONFIG, max_seconds=0.15)
        bench.runner.delay_s = 0.03
        assert bench.tune() == "seconds"
        assert 2 <= len(bench.runner.timed) < 60
        assert len(bench.of(TaskFinished)) == 2

    def test_the_second_request_stops_at_once(self, bench: Bench) -> None:
        def on_time() -> None:
            if len(bench.runner.timed) == 5:
                bench.stop.request()
                bench.stop.request()

        bench.runner.on_time = on_time
        with pytest.raises(KeyboardInterrupt):
            bench.tune()
        with Database(bench.folder) as database:
            done = [t for t in database.trials() if t.state is not TrialState.PROPOSED]
            assert len(done) == 4
            assert database.sessions()[-1].stopped_by == "request"

    def test_a_second_tuner_in_the_folder_is_refused(self, bench: Bench) -> None:
        with run_lock(bench.folder), pytest.raises(DatabaseLocked, match="is tuning there"):
            bench.tune()


class SlowSpace(SimulatedSpace):
    """Proposing takes longer than everything else."""

    def sample(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        time.sleep(0.02)
        return super().sample(n, rng)


class TestPlanningAhead:
    def test_what_is_proposed_does_not_depend_on_who_is_slow(
        self, bench: Bench, unbroken: list[Trial]
    ) -> None:
        # The device waits for proposals here, and proposals for the device in the other run.
        bench.new_space = SlowSpace
        bench.tune()
        assert [replace(trial, spent_s=0.0) for trial in bench.trials()] == unbroken

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


class TestFaults:
    def test_every_fault_costs_one_trial_and_is_recorded_with_its_cause(self, bench: Bench) -> None:
        bench.config = replace(CONFIG, n_trials=120)
        bench.builder.fault = bench.runner.fault = faults_by_hash
        assert bench.tune() == "budget"
        by_state = {trial.state: trial for trial in bench.trials()}
        assert {
            TrialState.OK,
            TrialState.BUILD_ERROR,
            TrialState.BUILD_TIMEOUT,
            TrialState.RUN_ERROR,
            TrialState.RUN_TIMEOUT,
            TrialState.WRONG_RESULT,
            TrialState.INVALID_MEASUREMENT,
        } <= set(by_state)
        messages = {t.failure.message for t in bench.trials() if t.failure is not None}
        assert any("RuntimeError: the runner itself broke" in one for one in messages)
        assert any("RuntimeError: pool is gone" in one for one in messages)

    def test_a_faulty_candidate_never_wins(self, bench: Bench) -> None:
        bench.builder.fault = bench.runner.fault = faults_by_hash
        bench.tune()
        with Database(bench.folder, read_only=True) as database:
            for winner in winners(database, bench.config).values():
                assert winner.trial.state is TrialState.OK
                assert faults_by_hash(winner.trial.candidate) is None

    def test_a_default_that_fails_stops_with_every_cause_and_heals(self, bench: Bench) -> None:
        bench.runner.fault = lambda candidate: "crash" if candidate.space == "default" else None
        with pytest.raises(DefaultFailed, match=r"(?s)2 of 2 tasks.*matmul: run_error: illegal"):
            bench.tune()
        n_failed = len(bench.trials())
        assert n_failed == 2 * DEFAULT_ATTEMPTS
        bench.runner.fault = lambda candidate: None
        bench.tune()
        states = [trial.state for trial in bench.trials()[: n_failed + 2]]
        assert states == [TrialState.RUN_ERROR] * n_failed + [TrialState.OK] * 2

    def test_an_unsteady_default_can_still_be_shipped(self, bench: Bench) -> None:
        bench.runner.fault = lambda one: "unstable" if one.space == "default" else None
        assert bench.tune() == "budget"
        defaults = [trial for trial in bench.trials() if trial.origin == "default"]
        assert [trial.state for trial in defaults] == [TrialState.OK] * len(defaults)

    def test_a_wrong_default_is_not_tried_again(self, bench: Bench) -> None:
        bench.runner.fault = lambda one: "wrong" if one.space == "default" else None
        with pytest.raises(DefaultFailed, match="wrong_result: nan at 3 of 32"):
            bench.tune()
        assert len(bench.trials()) == 2

    def test_a_dead_device_stops_the_run_and_keeps_the_budget(self, bench: Bench) -> None:
        bench.runner.fault = lambda candidate: "crash" if len(bench.runner.timed) > 10 else None
        with pytest.raises(DeviceLost, match="20 trials in a row died"):
            bench.tune()
        states = Counter(trial.state for trial in bench.trials())
        assert states[TrialState.RUN_ERROR] == 20
        assert states[TrialState.PROPOSED] > 0
        bench.runner.fault = lambda candidate: None
        assert bench.tune() == "budget"

    def test_a_space_full_of_crashes_does_not_stop_a_healthy_device(self, bench: Bench) -> None:
        def only_default_runs(candidate: Candidate) -> str | None:
            return None if candidate.space == "default" else "crash"

        bench.runner.fault = only_default_runs
        assert bench.tune() == "budget"
        with Database(bench.folder, read_only=True) as database:
            found = winners(database, bench.config)
        assert all(w.trial.origin == "default" and w.final for w in found.values())

    def test_a_comparison_that_breaks_leaves_the_default(self, bench: Bench) -> None:
        def broken(*args: object, **options: object) -> list[object]:
            raise RuntimeError("device went away")

        bench.runner.compare = broken  # type: ignore[method-assign, assignment]
        bench.tune()
        with Database(bench.folder, read_only=True) as database:
            for final in database.finals().values():
                assert final.winner_trial_id == final.default_trial_id
                assert final.default.failure is not None
                assert "device went away" in final.default.failure.message


def best_energy_mj(folder: Path, strategy: Literal["random", "evolutionary"], seed: int) -> float:
    bench = Bench(folder, tasks=[make_task()], names=("knobs",))
    bench.new_space = lambda name: SimulatedSpace(name, n_knobs=8)
    bench.config = replace(CONFIG, strategy=strategy, seed=seed, n_trials=80, population=64)
    bench.tune()
    with Database(folder, read_only=True) as database:
        (winner,) = winners(database, bench.config).values()
    return energy_mj(winner.trial.candidate)


@pytest.mark.slow
def test_evolution_finds_less_energy_than_random_search(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # Summed over seeds: one lucky draw must not decide between two strategies.
    evolved = drawn = 0.0
    for seed in range(3):
        evolved += best_energy_mj(tmp_path_factory.mktemp("evolved"), "evolutionary", seed)
        drawn += best_energy_mj(tmp_path_factory.mktemp("drawn"), "random", seed)
    assert evolved < 0.9 * drawn

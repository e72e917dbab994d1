"""What fails costs one trial; what fails for good ends the run with its cause."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from schedules.candidate import Candidate
from search.database import Database
from search.default_trials import DEFAULT_ATTEMPTS
from search.errors import DefaultFailed, DeviceLost
from search.trial import TrialState
from search.winners import winners
from tests.doubles import (
    faults_by_hash,
)
from tests.search.tuner_bench import CONFIG, Bench


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

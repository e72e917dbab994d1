"""Runs that are stopped, and what becomes of them when they go on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search.database import Database
from search.errors import DatabaseLocked
from search.events import (
    TaskFinished,
)
from search.progress import Progress
from search.run_lock import run_lock
from search.stopping import StopRequest
from search.trial import Trial, TrialState
from search.winners import winners
from tests.search.tuner_bench import CONFIG, Bench


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
        assert [replace(trial, spent_s=0.0, loop_s=None) for trial in bench.trials()] == unbroken

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

    def test_time_that_is_used_up_stops_between_trials(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A minute for every trial that was timed.
        minutes = property(lambda progress: 60.0 * len(bench.runner.timed))
        monkeypatch.setattr(Progress, "elapsed_s", minutes)
        bench.config = replace(CONFIG, max_seconds=300.0)
        assert bench.tune() == "seconds"
        assert len(bench.runner.timed) == 5
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

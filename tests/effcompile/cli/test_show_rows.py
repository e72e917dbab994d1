"""What ``show`` calls the best of a task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from effcompile.cli.show_rows import task_rows
from schedules.candidate import Candidate
from search.database import Database
from search.stored import Proposal
from search.trial import Failure, TrialState
from tests.effcompile.made_run import MATMUL, latency, make_run


def test_a_latency_that_may_not_be_used_is_not_the_best(tmp_path: Path) -> None:
    make_run(tmp_path)
    with Database(tmp_path / "trials.sqlite") as database:
        (before, *_) = task_rows(database)
        proposal = Proposal(candidate=Candidate(space="tvm", decisions="x"), origin="sample")
        (trial,) = database.propose(MATMUL.task_id, 2, [proposal])
        state = TrialState.INVALID_MEASUREMENT
        failure = Failure(state=state, message="latency may not be used: unstable")
        database.finish(replace(trial, state=state, latency=latency(0.5), failure=failure))
        (after, *_) = task_rows(database)
    assert after.trials == before.trials + 1
    assert after.best_us == before.best_us
    assert "invalid_measurement 1" in after.failed

"""How soon a run had a good point, from its database."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from effcompile.bench.reach import Reach, bench_reach
from effcompile.bench.reach_table import rows_of
from search.database import Database
from tests.doubles import make_task
from tests.effcompile.cli.commands import succeed
from tests.search.makers import failed, finished, proposal
from tests.search.tuner_bench import Bench


def run_of(folder: Path, *latencies_us: float | None, loop_s: float | None = 2.0) -> Path:
    """A run whose trials had these latencies, ``None`` for a failed one."""
    folder.mkdir()
    with Database(folder) as database:
        database.store_tasks([make_task()])
        numbers = range(len(latencies_us) + 1)  # the last trial is not finished
        trials = database.propose(make_task().task_id, 0, [proposal(i) for i in numbers])
        for trial, latency_us in zip(trials[:-1], latencies_us, strict=True):
            done = failed(trial) if latency_us is None else finished(trial, latency_us)
            database.finish(replace(done, loop_s=loop_s))
    return folder


def reached(run: Path, *known: Path) -> Reach:
    (found,) = bench_reach(run, known=known, within=0.03)
    return found


def test_the_first_latency_close_to_the_best_counts(tmp_path: Path) -> None:
    found = reached(run_of(tmp_path / "run", 200.0, None, 102.9, 150.0, 100.0))
    assert found == Reach(
        task="matmul 4x8",
        n_trials=5,
        loop_s=10.0,
        best_us=100.0,
        known_us=100.0,
        n_trials_within=3,
        within_s=6.0,
    )


def test_the_best_of_another_run_counts_as_known(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", 200.0, 102.9, 100.0)
    found = reached(run, run_of(tmp_path / "other", 98.0))
    assert (found.known_us, found.n_trials_within, found.within_s) == (98.0, 3, 6.0)
    never = reached(run, run_of(tmp_path / "fast", 50.0))
    assert (never.n_trials_within, never.within_s) == (None, None)


def test_a_run_without_recorded_seconds_has_trials_alone(tmp_path: Path) -> None:
    found = reached(run_of(tmp_path / "run", 200.0, 100.0, loop_s=None))
    assert (found.n_trials_within, found.within_s, found.loop_s) == (2, None, None)


def test_a_run_in_which_nothing_ran_has_no_good_point(tmp_path: Path) -> None:
    found = reached(run_of(tmp_path / "run", None))
    assert (found.known_us, found.n_trials_within) == (None, None)
    assert rows_of([found], within=0.03)[-1]["trials to within 3%"] == "never"


def test_the_last_row_holds_median_and_worst(tmp_path: Path) -> None:
    found = reached(run_of(tmp_path / "run", 200.0, 100.0))
    others = [replace(found, n_trials_within=9, within_s=5.0), replace(found, n_trials_within=None)]
    row = rows_of([found, *others], within=0.03)[-1]
    assert row["trials to within 3%"] == "5.5, 9 (1 never)"


def test_seconds_of_all_tasks_are_those_of_the_session(bench: Bench) -> None:
    bench.tune()
    found = bench_reach(bench.folder, known=(), within=0.03)
    with Database(bench.folder, read_only=True) as database:
        (session,) = database.sessions()
    loop_s = sum(one.loop_s or 0.0 for one in found)
    whole_s = session.build_s + session.latency_s + session.model_s
    # Choosing energies after the last trial belongs to no trial.
    assert 0.0 < loop_s <= whole_s * (1.0 + 1e-9)
    assert loop_s > 0.5 * whole_s


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    folder = tmp_path / "bench"
    folder.mkdir()
    return Bench(folder)


@pytest.mark.slow
def test_the_command_prints_a_row_per_task(tmp_path: Path) -> None:
    run_of(tmp_path / "run", 200.0, 100.0)
    printed = succeed("bench", "reach", "run", cwd=tmp_path)
    assert "seconds to within 3%" in printed
    assert "matmul 4x8" in printed

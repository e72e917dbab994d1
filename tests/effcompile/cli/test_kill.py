"""The real command killed at seeded random moments and started again, ten times."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import numpy as np
import psutil
import pytest

from search.database import Database
from search.trial import TrialState
from tests.effcompile.cli.commands import ENVIRONMENT, command, run_here, succeed, write_matmul

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

N_TRIALS = 24


def tune(strategy: str, out: Path) -> list[str]:
    # Five repeats are too few to be called unsteady: a default timed in a noisy moment would
    # be tried again, which shifts every later trial.
    options = ["--target", "cpu", "--effort", "quick", "--strategy", strategy]
    options += ["--trials", str(N_TRIALS), "--seed", "7"]
    return ["tune", "m.onnx", "--out", str(out), *options]


def kill_after(cwd: Path, arguments: list[str], delay_s: float) -> None:
    """Start the command, kill it, and see that nothing it started outlives it."""
    process = subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    children: list[psutil.Process] = []
    try:
        process.wait(delay_s)
    except subprocess.TimeoutExpired:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    left = [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    assert left == []


def recorded(run: Path) -> list[tuple[int, str, int, str, str]]:
    """What must not depend on measured numbers, of every trial; all must be finished."""
    with Database(run / "trials.sqlite", read_only=True) as database:
        trials = database.trials()
    assert all(one.state is not TrialState.PROPOSED for one in trials)
    return [
        (one.trial_id, one.task_id, one.round_index, one.candidate.candidate_id, one.origin)
        for one in trials
    ]


def test_random_search_killed_ten_times_ends_with_the_trials_of_an_unbroken_run(
    tmp_path: Path,
) -> None:
    write_matmul(tmp_path / "m.onnx")
    succeed(*tune("random", tmp_path / "whole"), cwd=tmp_path, run=run_here)
    whole = recorded(tmp_path / "whole")
    assert len(whole) == N_TRIALS
    rng = np.random.default_rng(7)
    for delay_s in rng.uniform(1.0, 5.0, size=10):
        kill_after(tmp_path, tune("random", tmp_path / "killed"), float(delay_s))
    succeed(*tune("random", tmp_path / "killed"), cwd=tmp_path)
    assert recorded(tmp_path / "killed") == whole


def test_evolution_killed_loses_and_repeats_no_trial(tmp_path: Path) -> None:
    write_matmul(tmp_path / "m.onnx")
    arguments = tune("evolutionary", tmp_path / "killed")
    rng = np.random.default_rng(8)
    finished: dict[int, object] = {}
    for delay_s in rng.uniform(3.5, 5.5, size=2):
        kill_after(tmp_path, arguments, float(delay_s))
        finished |= finished_trials(tmp_path / "killed")
    succeed(*arguments, cwd=tmp_path)
    trials = recorded(tmp_path / "killed")
    assert [one[0] for one in trials] == list(range(1, N_TRIALS + 1))
    assert len({(one[1], one[3]) for one in trials}) == N_TRIALS
    after = finished_trials(tmp_path / "killed")
    assert {number: after[number] for number in finished} == finished


def finished_trials(run: Path) -> dict[int, object]:
    """Finished trials by number, as far as there is a database."""
    if not (run / "trials.sqlite").exists():
        return {}
    with Database(run / "trials.sqlite") as database:
        trials = database.trials()
    return {one.trial_id: one for one in trials if one.state is not TrialState.PROPOSED}

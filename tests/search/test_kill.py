"""A tuner killed at random moments ends with the trials of an unbroken run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from search.database import Database

ROOT = Path(__file__).resolve().parents[2]
N_KILLS = 10


def start(folder: Path, delay_s: float) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.search.kill_driver", str(folder), str(delay_s)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)


def finish(folder: Path) -> None:
    process = start(folder, 0.0)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ten_kills_change_nothing_but_time(tmp_path: Path) -> None:
    finish(tmp_path / "unbroken")
    rng = np.random.default_rng(7)
    n_trials_seen = [0]
    for _ in range(N_KILLS):
        process = start(tmp_path / "killed", 0.012)
        wait_for_trial(tmp_path / "killed", n_trials_seen[-1] + int(rng.integers(1, 9)), process)
        try:
            process.wait(timeout=float(rng.uniform(0.0, 0.05)))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the run must still be going when killed"
        n_trials_seen.append(n_finished(tmp_path / "killed"))
    finish(tmp_path / "killed")
    assert len(set(n_trials_seen)) > N_KILLS // 2, "kills must fall into different places"
    with Database(tmp_path / "unbroken") as expected, Database(tmp_path / "killed") as found:
        assert list(map(essence, found.trials())) == list(map(essence, expected.trials()))
        assert [e.trial_id for e in found.energies()] == [e.trial_id for e in expected.energies()]
        assert found.rounds() == expected.rounds()
        assert found.finals() == expected.finals()
        assert len(found.sessions()) == N_KILLS + 1


def wait_for_trial(folder: Path, n_trials: int, process: subprocess.Popen[bytes]) -> None:
    while n_finished(folder) < n_trials and process.poll() is None:
        try:
            process.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue


def n_finished(folder: Path) -> int:
    if not (folder / "trials.sqlite").exists():
        return 0
    import sqlite3

    connection = sqlite3.connect(folder / "trials.sqlite")
    try:
        query = "SELECT count(*) FROM trials WHERE state IS NOT NULL"
        return int(connection.execute(query).fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


def essence(trial: object) -> tuple[object, ...]:
    names = ["trial_id", "task_id", "round_index", "origin", "candidate", "state", "same_as"]
    return tuple(getattr(trial, name) for name in names)

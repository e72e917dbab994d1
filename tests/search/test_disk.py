"""Torn bytes, full disks, rights: what the disk can do to a run folder."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from search.database import Database
from search.errors import DatabaseLocked, DatabaseUnwritable, DiskFull, SearchError
from tests.search.makers import finished, proposal

N_TRIALS = 30


def fill(folder: Path) -> Database:
    database = Database(folder)
    for trial in database.propose("a", 0, [proposal(i) for i in range(N_TRIALS)]):
        database.finish(finished(trial))
    return database


def copy_of_open_run(database: Database, target: Path) -> Path:
    """What a power cut leaves: the files as they are, nothing checkpointed."""
    target.mkdir()
    for path in database.path.parent.glob("trials.sqlite*"):
        shutil.copy(path, target / path.name)
    return target


def test_a_log_cut_at_any_byte_keeps_every_trial_before_the_cut(tmp_path: Path) -> None:
    database = fill(tmp_path)
    size = (tmp_path / "trials.sqlite-wal").stat().st_size
    rng = np.random.default_rng(1)
    n_found = []
    for i, cut in enumerate(sorted(int(one) for one in rng.integers(0, size, 12))):
        folder = copy_of_open_run(database, tmp_path / f"cut{i}")
        os.truncate(folder / "trials.sqlite-wal", cut)
        (folder / "trials.sqlite-shm").unlink()
        with Database(folder) as cut_off:
            done = [trial for trial in cut_off.trials() if trial.latency is not None]
        assert [trial.trial_id for trial in done] == list(range(1, len(done) + 1))
        n_found.append(len(done))
    assert n_found == sorted(n_found)
    assert n_found[-1] > n_found[0]
    database.close()


def test_flipped_bytes_are_reported_or_cost_single_rows(tmp_path: Path) -> None:
    fill(tmp_path).close()
    rng = np.random.default_rng(2)
    original = (tmp_path / "trials.sqlite").read_bytes()
    with Database(tmp_path) as database:
        expected = {trial.trial_id: trial for trial in database.trials()}
    outcomes = set()
    for i in range(40):
        data = bytearray(original)
        for place in rng.integers(100, len(data), 8):
            data[place] ^= 0xFF
        path = tmp_path / f"flipped{i}.sqlite"
        path.write_bytes(data)
        try:
            with Database(path) as database:
                found = database.trials()
        except SearchError:
            outcomes.add("refused")
            continue
        assert all(expected[trial.trial_id] == trial for trial in found)
        outcomes.add("whole" if len(found) == N_TRIALS else "set aside")
    assert {"refused", "set aside"} <= outcomes


def test_a_full_disk_is_an_error_that_loses_no_finished_trial(tmp_path: Path) -> None:
    database = fill(tmp_path)
    n_pages = database._connection.read("PRAGMA page_count")[0][0]
    # SQLite refuses to grow beyond this number of pages just as it does on a full disk.
    database._connection.read(f"PRAGMA max_page_count = {n_pages}")
    with pytest.raises(DiskFull, match="MiB are free there"):
        database.propose("a", 1, [proposal(i) for i in range(2000)])
    assert len(database.trials()) == N_TRIALS
    database._connection.read("PRAGMA max_page_count = 1000000")
    assert database.propose("a", 1, [proposal(99)])[0].trial_id == N_TRIALS + 1
    database.close()


WRITER = """
import resource, sys
from search.database import Database
from search.errors import DatabaseUnwritable
from tests.search.makers import proposal, finished
with Database(sys.argv[1]) as database:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        for number in range(10_000):
            (trial,) = database.propose("a", number, [proposal(number)])
            database.finish(finished(trial))
    except DatabaseUnwritable as error:
        print(number, error)
        sys.exit(7)
"""


def test_a_file_that_may_not_grow_is_an_error_that_loses_no_finished_trial(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 7, done.stderr
    number, message = done.stdout.split(" ", 1)
    assert "every finished trial is kept" in message
    with Database(tmp_path) as database:
        finished_ids = [t.trial_id for t in database.trials() if t.latency is not None]
    assert finished_ids == list(range(1, len(finished_ids) + 1))
    assert len(finished_ids) >= int(number) - 1


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnwritable, match="unable to open database file"):
        Database(tmp_path / "missing" / "trials.sqlite")


def test_a_database_held_by_another_program_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.connection.BUSY_TIMEOUT_S", 0.05)
    with Database(tmp_path) as database:
        other = sqlite3.connect(database.path)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseLocked, match="Another process held it"):
            database.propose("a", 0, [proposal(1)])
        other.rollback()
        other.close()
        assert len(database.propose("a", 0, [proposal(1)])) == 1

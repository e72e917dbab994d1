from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from search.errors import DatabaseLocked, DatabaseUnwritable
from search.run_lock import run_lock

HOLDER = """
import sys, time
from pathlib import Path
from search.run_lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_tuner_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        refused = pytest.raises(DatabaseLocked, match=f"process {os.getpid()} is tuning there")
        with refused, run_lock(tmp_path):
            raise AssertionError("must not get in")
    with run_lock(tmp_path):
        pass


def test_the_lock_of_a_killed_process_is_gone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        refused = pytest.raises(DatabaseLocked, match=f"process {holder.pid}")
        with refused, run_lock(tmp_path):
            raise AssertionError("must not get in")
        holder.send_signal(signal.SIGKILL)
    with run_lock(tmp_path):
        pass


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused = pytest.raises(DatabaseUnwritable, match="No such file")
    with refused, run_lock(tmp_path / "missing"):
        raise AssertionError("must not get in")

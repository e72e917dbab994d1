"""Interrupts of the real command: once, twice, by the system; on a terminal and off."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from search.database import Database
from search.trial import Trial, TrialState
from tests.effcompile.cli.commands import (
    ENVIRONMENT,
    command,
    run_command,
    succeed,
    write_perceptron,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PATIENCE_S = 40.0
Start = Callable[..., "subprocess.Popen[str]"]
QUICK = ["--effort", "quick", "--trials", "5000"]
TUNE = ["tune", "m.onnx", "--out", "run", "--target", "cpu", *QUICK]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts tuning with a budget that it cannot spend during the test."""
    started = []

    def begin(err: int = subprocess.PIPE) -> subprocess.Popen[str]:
        write_perceptron(tmp_path / "m.onnx")
        process = subprocess.Popen(
            command(*TUNE),
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def finished(cwd: Path) -> list[Trial]:
    """The finished trials of the run."""
    with Database(cwd / "run" / "trials.sqlite", read_only=True) as database:
        return [one for one in database.trials() if one.state is not TrialState.PROPOSED]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for_trials(cwd: Path, n_trials: int) -> None:
    path = cwd / "run" / "trials.sqlite"

    def enough() -> bool:
        if not path.exists():
            return False
        try:
            return len(finished(cwd)) >= n_trials
        except Exception:  # the tables are being made
            return False

    wait_until(enough)


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def none_left(processes: list[psutil.Process]) -> bool:
    return not any(
        one.is_running() and one.status() != psutil.STATUS_ZOMBIE
        for one in processes
        if psutil.pid_exists(one.pid)
    )


def test_first_interrupt_ends_after_the_current_trial(tmp_path: Path, start: Start) -> None:
    process = start()
    wait_for_trials(tmp_path, 3)
    processes = children(process)
    second = run_command(*TUNE, cwd=tmp_path)
    assert second.status == 1
    assert f"process {process.pid} is tuning there" in second.err
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 3, err
    assert "stopping after the current trial" in err
    assert "Traceback" not in err
    assert "ended by request" in out
    assert len(finished(tmp_path)) >= 3
    wait_until(lambda: none_left(processes))
    said = succeed("build", "run", "--out", "a.effc", "--no-measure", cwd=tmp_path)
    assert "wrote a.effc" in said


def test_second_interrupt_ends_at_once_and_keeps_trials(tmp_path: Path, start: Start) -> None:
    process = start()
    wait_for_trials(tmp_path, 3)
    processes = children(process)
    os.kill(process.pid, signal.SIGSTOP)
    before = finished(tmp_path)
    # Both are waiting when it goes on; SIGTERM counts like Ctrl-C, and cannot merge with it.
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 3, err
    assert "every finished trial is kept in run" in err
    assert "Traceback" not in err
    assert out == ""
    assert finished(tmp_path)[: len(before)] == before
    wait_until(lambda: none_left(processes))


def test_termination_on_a_terminal_restores_it(tmp_path: Path, start: Start) -> None:
    master, slave = pty.openpty()
    process = start(err=slave)
    os.close(slave)
    wait_for_trials(tmp_path, 2)
    process.send_signal(signal.SIGTERM)
    shown = b""
    while True:
        try:
            shown += os.read(master, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
    os.close(master)
    assert process.wait(PATIENCE_S) == 3
    process.communicate()
    assert b"stopping after the current trial" in shown
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l"), "the cursor stays hidden"

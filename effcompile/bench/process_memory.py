"""Peak memory of a child process and of everything it started."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_POLL_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUse:
    """What a finished command used.

    Attributes:
        stdout: What it printed.
        exit_status: As the shell would see it.
        wall_s: Seconds from start to end.
        peak_main_mib: Peak resident memory of the process itself.
        peak_tree_mib: Peak over time of the proportional memory (shared pages counted
            once) of the process and all its descendants.
    """

    stdout: str
    exit_status: int
    wall_s: float
    peak_main_mib: float
    peak_tree_mib: float


def run_measured(command: Sequence[str], log: Path, *, timeout_s: float) -> ProcessUse:
    """Run a command to its end, watching its memory four times a second.

    Args:
        command: Program and arguments.
        log: Receives stderr.
        timeout_s: The command is killed after this.
    """
    started = time.monotonic()
    peak_main = peak_tree = 0.0
    with log.open("wb") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        watched = psutil.Process(child.pid)
        while child.poll() is None:
            main_mib, tree_mib = _use_mib(watched)
            peak_main, peak_tree = max(peak_main, main_mib), max(peak_tree, tree_mib)
            if time.monotonic() - started > timeout_s:
                child.kill()
            time.sleep(_POLL_S)
        stdout = child.stdout.read() if child.stdout else ""
    return ProcessUse(
        stdout=stdout,
        exit_status=child.returncode,
        wall_s=time.monotonic() - started,
        peak_main_mib=peak_main,
        peak_tree_mib=peak_tree,
    )


def _use_mib(process: psutil.Process) -> tuple[float, float]:
    try:
        main = process.memory_info().rss
        tree = sum(_pss(one) for one in [process, *process.children(recursive=True)])
    except psutil.Error:
        return 0.0, 0.0
    return main / 2**20, tree / 2**20


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0

"""The tools of ``compute-sanitizer``: where they are, and a process under one of them."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
FOLDERS = "/usr/local/cuda/bin:/usr/local/cuda/compute-sanitizer"
FIRST_PORT, PORTS_EACH = 49152, 16
READ_BYTES = 1 << 16

# What our own calls report is raised and checked there; a kernel that fails once must not take
# those behind it along; messages name instructions of the kernel, not lines of Python.
COMMON = {
    "report-api-errors": "no",
    "destroy-on-device-error": "kernel",
    "show-backtrace": "no",
    "print-limit": "0",
    "launch-timeout": "60",
}
EXTRA: dict[str, dict[str, str]] = {
    "memcheck": {"padding": "512"},
    "racecheck": {"num-cuda-barriers": "64", "racecheck-num-workers": "2"},
    "synccheck": {"num-cuda-barriers": "64"},
    "initcheck": {},
}


class NoSanitizer(Exception):
    """``compute-sanitizer`` is not here."""


def executable() -> str:
    """The tool, from ``COMPUTE_SANITIZER``, the path or the toolkit's folder.

    Raises:
        NoSanitizer: None of them has it.
    """
    named = os.environ.get("COMPUTE_SANITIZER", "")
    found = (
        named
        or shutil.which("compute-sanitizer")
        or shutil.which("compute-sanitizer", path=FOLDERS)
    )
    if not found:
        raise NoSanitizer(
            "compute-sanitizer was not found: expected it on the path or in /usr/local/cuda. It is "
            "part of the CUDA toolkit; pip has it as nvidia-cuda-sanitizer-api. "
            "COMPUTE_SANITIZER names another place."
        )
    return found


@cache
def _said(*arguments: str) -> str:
    done = subprocess.run(
        [executable(), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


def version() -> str:
    """Its version, as it gives it."""
    lines = [line for line in _said("--version").splitlines() if line.startswith("Version")]
    return lines[0].removeprefix("Version ") if lines else "unknown"


def command(tool: str, slot: int, program: Sequence[str]) -> list[str]:
    """How a program is started under a tool; options that this version does not know are left out.

    Args:
        tool: One of :data:`TOOLS`.
        slot: Processes side by side have different ones: each listens on ports of its own.
        program: Command and arguments.
    """
    wanted = {**COMMON, **EXTRA[tool], "port": str(FIRST_PORT + PORTS_EACH * slot)}
    known = {name: value for name, value in wanted.items() if f"--{name} " in _said("--help")}
    options = [part for name, value in known.items() for part in (f"--{name}", value)]
    return [executable(), "--tool", tool, *options, *program]


@dataclass(frozen=True, slots=True)
class Output:
    """What a process wrote, and whether it was stopped at its limit."""

    text: str
    was_late: bool
    seconds: float


def watched_output(
    arguments: Sequence[str], environment: Mapping[str, str], *, limit_s: float
) -> Output:
    """Run a process on a terminal of its own, so that nothing waits in buffers: the tool and the
    program write into one output, whose order tells what belongs together."""
    began = time.monotonic()
    reader, writer = pty.openpty()
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as terminal:
        chunks, was_late = _read_until(terminal.fileno(), began + limit_s)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    text = b"".join(chunks).decode(errors="replace").replace("\r\n", "\n")
    return Output(text, was_late, time.monotonic() - began)


def _read_until(fd: int, deadline: float) -> tuple[list[bytes], bool]:
    """Everything until the last writer has closed, or time is over."""
    chunks = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return chunks, True
        ready, _, _ = select.select([fd], [], [], left)
        if not ready:
            return chunks, True
        try:
            chunk = os.read(fd, READ_BYTES)
        except OSError:  # Linux: the other end of a terminal is closed
            return chunks, False
        if not chunk:
            return chunks, False
        chunks.append(chunk)

"""How a child process comes to life: as a fresh interpreter, or as another spawner makes it.

A spawner returns something that can be waited for. The wires and the log are the
caller's; the child gets them under the numbers that the caller uses.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What a child is made of.

    Attributes:
        module: Module run with ``python -m``.
        environment: Variables set on top of the parent's.
        log_path: Receives the child's output, appended to; its folder is the working folder.
        read_fd: Requests come from here.
        write_fd: Answers go here.
        memory_limit_mib: Private memory the child may take; 0 means any.
    """

    module: str
    environment: Mapping[str, str]
    log_path: Path
    read_fd: int
    write_fd: int
    memory_limit_mib: int


class Spawned(Protocol):
    """A child that leads its own process group and dies with this process."""

    @property
    def pid(self) -> int:
        """Its id, which is nobody else's until the end was asked for."""

    def poll(self) -> int | None:
        """Exit status, negative for a signal; ``None`` while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Exit status once it ended.

        Raises:
            subprocess.TimeoutExpired: It still runs after ``timeout`` seconds.
        """


class Spawner(Protocol):
    """One way to start a child."""

    def spawn(self, child: ChildSpec) -> Spawned:
        """Start it; returns at once or as soon as it exists."""


class FreshInterpreter:
    """Starts ``python -m``: nothing of this process is in the child."""

    def spawn(self, child: ChildSpec) -> Spawned:
        """See :class:`Spawner`."""
        wiring = (os.getpid(), child.read_fd, child.write_fd, child.memory_limit_mib)
        with child.log_path.open("ab") as log:
            return start_interpreter(
                [child.module, *(str(value) for value in wiring)],
                environment=child.environment,
                log_path=child.log_path,
                log_fd=log.fileno(),
                pass_fds=(child.read_fd, child.write_fd),
            )


def start_interpreter(
    arguments: list[str],
    *,
    environment: Mapping[str, str],
    log_path: Path,
    log_fd: int,
    pass_fds: tuple[int, ...],
) -> subprocess.Popen[bytes]:
    """Start ``python -m`` with this process's import path, as leader of its own session."""

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            env=_child_environment(environment),
            pass_fds=pass_fds,
            # `-m` puts the current folder first on the import path: one without modules.
            cwd=log_path.parent,
            start_new_session=True,
        )

    return _spawning_thread().submit(start).result()


@cache
def _spawning_thread() -> ThreadPoolExecutor:
    # "Die with the parent" means: with the *thread* that started the child. This one
    # lives as long as the process, whatever thread makes the call.
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawn")


def _child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The parent's variables, with the parent's import path, so both run the same code."""
    environment = dict(os.environ)
    path = [os.path.abspath(entry) for entry in sys.path]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path))
    environment.update(extra)
    return environment

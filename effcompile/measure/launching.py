"""How a child process comes to life: as a fresh interpreter, or as another launcher makes it.

A launcher returns something that can be waited for. The wires and the log are the
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
class Launch:
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


class Launched(Protocol):
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


class Launcher(Protocol):
    """One way to start a child."""

    def launch(self, launch: Launch) -> Launched:
        """Start it; returns at once or as soon as it exists."""


class FreshInterpreter:
    """Starts ``python -m``: nothing of this process is in the child."""

    def launch(self, launch: Launch) -> Launched:
        """See :class:`Launcher`."""
        wiring = (os.getpid(), launch.read_fd, launch.write_fd, launch.memory_limit_mib)
        with launch.log_path.open("ab") as log:
            return start_interpreter(
                [launch.module, *(str(value) for value in wiring)],
                environment=launch.environment,
                log_path=launch.log_path,
                log_fd=log.fileno(),
                pass_fds=(launch.read_fd, launch.write_fd),
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

    return _spawner().submit(start).result()


@cache
def _spawner() -> ThreadPoolExecutor:
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

"""The parent's side of a child process: start it, call it with a limit, kill it.

Everything that may hang, crash or eat memory (compilers, kernels under test) runs in
such a child. It never shares anything with this process, leads its own process group,
and is killed as a group, so nothing it starts outlives it. A child that was killed, or
died, is started again by the next call. How it is started is the spawner's business.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from effcompile.errors import WorkerDied, WorkerLate, WorkerRaised
from effcompile.measure import channel
from effcompile.measure.spawning import ChildSpec, FreshInterpreter, Spawned, Spawner

T = TypeVar("T")
GRACE_S = 2.0
LOG_TAIL_BYTES = 4000


class ChildProcess:
    """One restartable child, called by one thread at a time.

    Args:
        module: Module run with ``python -m``; it calls ``serving.join_parent`` first.
        log_path: Receives the child's output, appended to.
        environment: Variables set on top of the parent's.
        startup_s: Seconds the child may take to import what it needs. Kept apart from the
            limits of calls, so that a slow first import is not taken for a slow call.
        memory_limit_mib: Private memory the child may take; 0 means any.
        spawner: Starts it; a fresh interpreter by default.
    """

    def __init__(
        self,
        module: str,
        *,
        log_path: Path,
        environment: Mapping[str, str] | None = None,
        startup_s: float = 180.0,
        memory_limit_mib: int = 0,
        spawner: Spawner | None = None,
    ) -> None:
        self.module = module
        self.log_path = log_path.resolve()
        self.startup_s = startup_s
        self.memory_limit_mib = memory_limit_mib
        self._environment = dict(environment or {})
        self._spawner = spawner or FreshInterpreter()
        self._process: Spawned | None = None
        self._read_fd = -1
        self._write_fd = -1
        self.n_starts = 0

    @property
    def is_running(self) -> bool:
        """True between a start and the child's end, however it ends."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Process id while running."""
        return self._process.pid if self._process is not None and self.is_running else None

    def start(self) -> None:
        """Start the child, if it is not running, and wait until it is ready.

        Raises:
            WorkerDied: It ended while starting.
            WorkerLate: It was not ready in time and was killed.
        """
        if self.is_running:
            return
        self.kill()
        self._spawn()
        self.n_starts += 1
        self._receive("start", self.startup_s)

    def _spawn(self) -> None:
        child_read, self._write_fd = os.pipe()
        self._read_fd, child_write = os.pipe()
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        child = ChildSpec(
            module=self.module,
            environment=self._environment,
            log_path=self.log_path,
            read_fd=child_read,
            write_fd=child_write,
            memory_limit_mib=self.memory_limit_mib,
        )
        try:
            self._process = self._spawner.spawn(child)
        finally:
            os.close(child_read)
            os.close(child_write)

    def call(self, method: str, argument: Any, *, answer: type[T], timeout_s: float) -> T:
        """Call a method of the child, starting it if needed.

        Args:
            method: Name of the endpoint.
            argument: Anything msgspec can encode.
            answer: Type of what comes back.
            timeout_s: Seconds until the child is killed.

        Raises:
            WorkerDied: The child ended before it answered.
            WorkerLate: It did not answer in time and was killed.
            WorkerRaised: It answered with an error; it keeps running.
        """
        self.start()
        request = channel.Request(method=method, payload=msgspec.Raw(msgspec.json.encode(argument)))
        reply = self._receive(method, timeout_s, request)
        if reply.error:
            raise WorkerRaised(f"{reply.error}: {reply.message}", kind=reply.error)
        return msgspec.json.decode(reply.payload, type=answer)

    def _receive(
        self, method: str, timeout_s: float, request: channel.Request | None = None
    ) -> channel.Answer:
        try:
            if request is not None:
                channel.send(self._write_fd, request, timeout_s=timeout_s)
            body = channel.receive(self._read_fd, timeout_s=timeout_s)
        except channel.Closed:
            raise WorkerDied(self._obituary(method)) from None
        except channel.Late:
            self.kill()
            raise WorkerLate(
                f"{self.module} did not answer {method} within {timeout_s:g} s and was killed. "
                f"Its log is {self.log_path}."
            ) from None
        except BaseException:
            # An interrupted call would leave its answer in the pipe, for the next call to find.
            self.kill()
            raise
        return msgspec.json.decode(body, type=channel.Answer)

    def _obituary(self, method: str) -> str:
        status = self._wait()
        self.kill()
        how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
        return (
            f"{self.module} {how} during {method}. Its log is {self.log_path}; the last lines:\n"
            f"{tail_of(self.log_path)}"
        )

    def _wait(self) -> int:
        assert self._process is not None
        try:
            return self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL

    def interrupt(self) -> None:
        """Kill the child from another thread than the one in a call, which then raises."""
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """End the child and everything in its process group, at once."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        for fd in (self._read_fd, self._write_fd):
            os.close(fd)

    def close(self) -> None:
        """Let an idle child end by itself, then make sure."""
        if self._process is None:
            return
        os.close(self._write_fd)
        self._write_fd = os.open(os.devnull, os.O_WRONLY)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        self.kill()


def tail_of(path: Path, *, size_bytes: int = LOG_TAIL_BYTES) -> str:
    """The last bytes of a log as text, empty if there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - size_bytes))
            return log.read().decode(errors="replace").strip()
    except OSError:
        return ""

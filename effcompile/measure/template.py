"""Many alike children from one: a process that imports once and forks the others.

    tuner --socket--> template (imports, no device, one thread) --fork--> child
      |                                                                     |
      +----------------------------- pipes ---------------------------------+

A forked child is ready in milliseconds and shares the template's memory until it writes
to it. If the tuner dies, the kernel kills the template; if the template dies, it kills
the children. A template that cannot be had (no ``pidfd``, threads after the import, a crash)
costs nothing but time: children are then started as fresh interpreters.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from effcompile.measure import channel
from effcompile.measure.spawning import (
    ChildSpec,
    FreshInterpreter,
    Spawned,
    Spawner,
    start_interpreter,
)
from effcompile.measure.template_process import LARGEST_MESSAGE_BYTES, ForkOrder

logger = logging.getLogger(__name__)
MODULE = "effcompile.measure.template_process"


class TemplateUnusable(Exception):
    """The template did not start, died, or refused to fork."""


class Template:
    """Starts children of one module by forking; a :class:`Spawner`.

    Args:
        module: As for :class:`ChildProcess`, with ``load`` and ``ENDPOINTS``; see
            :mod:`effcompile.measure.template_process`.
        log_path: Receives the template's own output, appended to.
        environment: Variables of template and children, on top of this process's.
        startup_s: Seconds the template may take to import.
    """

    def __init__(
        self,
        module: str,
        *,
        log_path: Path,
        environment: Mapping[str, str],
        startup_s: float = 180.0,
    ) -> None:
        self.module = module
        self.log_path = log_path.resolve()
        self.startup_s = startup_s
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._usable = _can_watch()
        self._fallback: Spawner = FreshInterpreter()

    @property
    def pid(self) -> int | None:
        """Process id while running."""
        return self._process.pid if self._process is not None else None

    def call(self, method: str, argument: Any) -> None:
        """Call an endpoint in the template itself, for what all later children shall have.

        A failure is not raised: the children will meet it again, where it can be recorded.
        """
        payload = msgspec.Raw(msgspec.json.encode(argument))
        with contextlib.suppress(TemplateUnusable):
            self._ask(channel.Request(method=method, payload=payload))

    def spawn(self, child: ChildSpec) -> Spawned:
        """See :class:`Spawner`."""
        try:
            return self._fork(child)
        except TemplateUnusable as problem:
            logger.info("a child of %s starts afresh: %s", self.module, problem)
            return self._fallback.spawn(child)

    def _fork(self, child: ChildSpec) -> Spawned:
        order = ForkOrder(memory_limit_mib=child.memory_limit_mib)
        request = channel.Request(method="fork", payload=msgspec.Raw(msgspec.json.encode(order)))
        with child.log_path.open("ab") as log:
            fds = [child.read_fd, child.write_fd, log.fileno()]
            pid = msgspec.json.decode(self._ask(request, fds), type=int)
        return Forked(pid, self)

    def reap(self, pid: int) -> int:
        """Exit status of a child that ended, or -9 if it died with the template."""
        payload = msgspec.Raw(msgspec.json.encode(pid))
        try:
            answer = self._ask(channel.Request(method="reap", payload=payload))
        except TemplateUnusable:
            return -signal.SIGKILL
        return msgspec.json.decode(answer, type=int)

    def _ask(self, request: channel.Request, fds: list[int] | None = None) -> msgspec.Raw:
        with self._lock:
            if not self._usable:
                raise TemplateUnusable(f"no template; see {self.log_path}")
            try:
                answer = self._exchange(request, fds or [])
            except (OSError, EOFError, msgspec.MsgspecError) as error:
                self._end()
                raise TemplateUnusable(f"{error!r}; see {self.log_path}") from error
        if answer.error:
            raise TemplateUnusable(f"{answer.error}: {answer.message}")
        return answer.payload

    def _exchange(self, request: channel.Request, fds: list[int]) -> channel.Answer:
        if self._process is None:
            self._start()
        assert self._socket is not None
        socket.send_fds(self._socket, [msgspec.json.encode(request)], fds)
        return self._receive()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with theirs, self.log_path.open("ab") as log:
            self._process = start_interpreter(
                [MODULE, self.module, str(os.getpid()), str(theirs.fileno())],
                environment=self._environment,
                log_path=self.log_path,
                log_fd=log.fileno(),
                pass_fds=(theirs.fileno(),),
            )
        self._socket = ours
        ours.settimeout(self.startup_s)
        self._receive()

    def _receive(self) -> channel.Answer:
        assert self._socket is not None
        data = self._socket.recv(LARGEST_MESSAGE_BYTES)
        if not data:
            raise EOFError("the template ended")
        return msgspec.json.decode(data, type=channel.Answer)

    def _end(self) -> None:
        self._usable = False
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End the template, and with it every child it forked."""
        with self._lock:
            self._end()


class Forked:
    """A child of a template; see :class:`Spawned`."""

    def __init__(self, pid: int, template: Template) -> None:
        self.pid = pid
        self._template = template
        self._status: int | None = None
        # The template keeps the ended child's entry until it is asked: the id stays its own.
        self._end_fd = os.pidfd_open(pid) if sys.platform == "linux" else -1

    def poll(self) -> int | None:
        """See :class:`Spawned`."""
        return self._status if self._status is not None else self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """See :class:`Spawned`."""
        status = self._status if self._status is not None else self._look(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"child {self.pid}", timeout or 0.0)
        return status

    def _look(self, timeout_s: float | None) -> int | None:
        ended = select.poll()
        ended.register(self._end_fd, select.POLLIN)
        if not ended.poll(None if timeout_s is None else timeout_s * 1000):
            return None
        os.close(self._end_fd)
        self._status = self._template.reap(self.pid)
        return self._status


def _can_watch() -> bool:
    """Whether this system tells the end of a process that is not our own child."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True

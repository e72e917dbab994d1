"""The child's side of a child process: answer calls until the parent is gone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from effcompile.measure import channel

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method of a child process.

    Attributes:
        request: Type of its argument.
        function: Called with the argument; what it returns goes back as JSON.
    """

    request: Any
    function: Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What the parent passes on the command line.

    Attributes:
        read_fd: Requests come from here.
        write_fd: Answers go here.
        memory_limit_mib: Private memory the child may take; 0 means any.
    """

    read_fd: int
    write_fd: int
    memory_limit_mib: int


def join_parent(arguments: list[str]) -> Wiring:
    """Tie this process to its parent; the first thing a child does."""
    parent_pid, read_fd, write_fd, memory_limit_mib = map(int, arguments)
    wiring = Wiring(read_fd=read_fd, write_fd=write_fd, memory_limit_mib=memory_limit_mib)
    tie_to_parent(parent_pid)
    limit_memory(wiring.memory_limit_mib)
    for fd in (wiring.read_fd, wiring.write_fd):
        os.set_inheritable(fd, False)
    return wiring


def tie_to_parent(parent_pid: int) -> None:
    """Die with the parent, and leave interrupts to it.

    Terminal interrupts are for the parent alone: it decides what happens to its
    children. If the parent dies in any way, the kernel kills this process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def limit_memory(limit_mib: int) -> None:
    """Bound private memory, so that a runaway child fails instead of filling the machine."""
    if limit_mib > 0:
        limit = limit_mib << 20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def serve(wiring: Wiring, endpoints: Mapping[str, Endpoint]) -> None:
    """Report ready, then answer calls one by one; returns when the parent closes its end."""
    with contextlib.suppress(channel.Closed):
        channel.send(wiring.write_fd, channel.Answer())
    while True:
        try:
            request = msgspec.json.decode(channel.receive(wiring.read_fd), type=channel.Request)
            channel.send(wiring.write_fd, answer(endpoints[request.method], request))
        except channel.Closed:
            return


def answer(endpoint: Endpoint, request: channel.Request) -> channel.Answer:
    """Call an endpoint; an error of its own becomes part of the answer, and of the log."""
    try:
        argument = msgspec.json.decode(request.payload, type=endpoint.request)
        payload = msgspec.Raw(msgspec.json.encode(endpoint.function(argument)))
        return channel.Answer(payload=payload)
    except Exception as error:
        text = traceback.format_exc()
        sys.stderr.write(text)
        sys.stderr.flush()
        return channel.Answer(error=type(error).__name__, message=str(error), traceback=text)

"""The template's side: import a module once, then fork children that serve it.

Run as ``python -m effcompile.measure.template_process MODULE PARENT_PID SOCKET``. The module has
``load()``, called once before the first fork, and ``ENDPOINTS``, which every child serves.
It must leave the process with one thread and without a device: of several threads a fork
keeps only one, and whatever locks the others held.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from effcompile.measure import channel, serving

LARGEST_MESSAGE_BYTES = 1 << 16
N_FDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkOrder:
    """A child is wanted; its read end, write end and log come with the message."""

    memory_limit_mib: int


def main() -> None:
    """Import, then fork and reap on demand until the parent is gone."""
    module_name, parent_pid, socket_fd = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    serving.tie_to_parent(parent_pid)
    wire = socket.socket(fileno=socket_fd)
    wire.set_inheritable(False)
    module = importlib.import_module(module_name)
    module.load()
    wire.send(msgspec.json.encode(channel.Answer()))
    while True:
        data, fds, _, _ = socket.recv_fds(
            wire, LARGEST_MESSAGE_BYTES, N_FDS, socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return
        request = msgspec.json.decode(data, type=channel.Request)
        answer = _answer(request, fds, module.ENDPOINTS, wire)
        for fd in fds:
            os.close(fd)
        wire.send(msgspec.json.encode(answer))


def _answer(
    request: channel.Request,
    fds: Sequence[int],
    endpoints: Mapping[str, serving.Endpoint],
    wire: socket.socket,
) -> channel.Answer:
    if request.method == "fork":
        order = msgspec.json.decode(request.payload, type=ForkOrder)
        n_threads = _n_threads()
        if n_threads > 1:
            return channel.Answer(
                error="ManyThreads", message=f"{n_threads} threads run, expected 1 before a fork"
            )
        return _value(_fork(order, fds, endpoints, wire))
    if request.method == "reap":
        _, status = os.waitpid(msgspec.json.decode(request.payload, type=int), 0)
        return _value(os.waitstatus_to_exitcode(status))
    return serving.answer(endpoints[request.method], request)


def _value(value: int) -> channel.Answer:
    return channel.Answer(payload=msgspec.Raw(msgspec.json.encode(value)))


def _n_threads() -> int:
    """Threads of this process, those that Python does not know included."""
    return len(os.listdir("/proc/self/task"))


def _fork(
    order: ForkOrder,
    fds: Sequence[int],
    endpoints: Mapping[str, serving.Endpoint],
    wire: socket.socket,
) -> int:
    template_pid = os.getpid()
    # Collecting would write to every object, and so copy all memory that is shared.
    gc.collect()
    gc.freeze()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        wire.close()
        _become_child(template_pid, fds[2])
        wiring = serving.Wiring(
            read_fd=fds[0], write_fd=fds[1], memory_limit_mib=order.memory_limit_mib
        )
        serving.limit_memory(wiring.memory_limit_mib)
        serving.serve(wiring, endpoints)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(status)
    return 0


def _become_child(template_pid: int, log_fd: int) -> None:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    serving.tie_to_parent(template_pid)
    for standard in (1, 2):
        os.dup2(log_fd, standard)
    os.close(log_fd)


def _leave(status: int) -> Any:
    """End without the template's own exit handlers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()

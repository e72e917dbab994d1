"""Length-prefixed JSON messages over a pair of pipes.

The format both ends of a child process speak: four bytes of length, then one JSON
document. It knows nothing of processes.
"""

from __future__ import annotations

import os
import select
import time

import msgspec

MAX_MESSAGE_BYTES = 1 << 30
_HEADER_BYTES = 4
_CHUNK_BYTES = 1 << 20


class Closed(Exception):
    """The other end closed its pipe."""


class Late(Exception):
    """No whole message arrived before the deadline."""


# Only msgspec's own records can hold a part that stays encoded.
class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One call: which method, and its argument as JSON."""

    method: str
    payload: msgspec.Raw


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a call gave back.

    Attributes:
        payload: The value as JSON, if the call succeeded.
        error: Class name of the error, empty if the call succeeded.
        message: Its message.
        traceback: Its traceback, for the log.
    """

    payload: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""
    message: str = ""
    traceback: str = ""


def send(fd: int, message: Request | Answer, *, timeout_s: float | None = None) -> None:
    """Write one message.

    Args:
        fd: Write end of a pipe.
        message: What to send.
        timeout_s: Seconds until :class:`Late`: a reader that hangs fills the pipe.

    Raises:
        Closed: The other end is gone.
        Late: The deadline passed first.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    body = msgspec.json.encode(message)
    view = memoryview(len(body).to_bytes(_HEADER_BYTES, "little") + body)
    try:
        while view:
            if deadline is not None:
                left = max(0.0, deadline - time.monotonic())
                if not select.select([], [fd], [], left)[1]:
                    raise Late
            # A pipe that is ready takes at least this much without blocking.
            view = view[os.write(fd, view[: select.PIPE_BUF]) :]
    except (BrokenPipeError, ConnectionResetError):
        raise Closed from None


def receive(fd: int, *, timeout_s: float | None = None) -> bytes:
    """Read the body of one message.

    Args:
        fd: Read end of a pipe.
        timeout_s: Seconds until :class:`Late`; ``None`` waits for ever.

    Raises:
        Closed: The pipe ended, between messages or within one.
        Late: The deadline passed first.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    size = int.from_bytes(_read_exactly(fd, _HEADER_BYTES, deadline), "little")
    if size > MAX_MESSAGE_BYTES:
        raise Closed
    return _read_exactly(fd, size, deadline)


def _read_exactly(fd: int, size: int, deadline: float | None) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        if deadline is not None:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([fd], [], [], left)[0]:
                raise Late
        chunk = os.read(fd, min(size - len(parts), _CHUNK_BYTES))
        if not chunk:
            raise Closed
        parts += chunk
    return bytes(parts)

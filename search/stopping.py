"""Stopping on request: once after the current trial, twice at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Schedulers and containers announce the end with the second.
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """A wish to stop that the loop looks at between trials.

    Args:
        on_first: Called at the first request, perhaps from a signal handler.
    """

    def __init__(self, on_first: Callable[[], None] | None = None) -> None:
        self._n_requests = 0
        self._on_first = on_first

    @property
    def is_set(self) -> bool:
        """True once somebody asked."""
        return self._n_requests > 0

    def request(self) -> None:
        """Ask to stop after the current trial; asked again, stop here.

        Raises:
            KeyboardInterrupt: At the second request. Finished trials are on disk by then.
        """
        self._n_requests += 1
        if self._n_requests > 1:
            raise KeyboardInterrupt
        if self._on_first is not None:
            self._on_first()


@contextmanager
def stop_on_interrupt(stop: StopRequest) -> Iterator[None]:
    """Let Ctrl-C and a termination signal set the request while the body runs; main thread only."""

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.request()

    previous = {number: signal.signal(number, on_interrupt) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

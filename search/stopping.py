"""Stopping on request: once after the current trial, twice at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """A wish to stop that the loop looks at between trials."""

    def __init__(self) -> None:
        self._n_requests = 0

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


@contextmanager
def stop_on_interrupt(stop: StopRequest) -> Iterator[None]:
    """Let Ctrl-C set the request while the body runs; main thread only."""

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.request()

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)

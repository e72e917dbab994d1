"""A kernel launched over and over while a meter is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Load(Protocol):
    """A kernel launched over and over.

    Attributes:
        n_launches: Launches finished so far.
        busy_us: Time they took.
    """

    n_launches: int
    busy_us: float

    def advance(self) -> None:
        """Keep the device busy for longer than one reading of the meter takes."""

    def finish(self) -> None:
        """Stop launching and wait."""


class HostLoad:
    """Launches on this processor, in short batches between two readings."""

    def __init__(self, run_us: Callable[[], float], n_launches: int) -> None:
        self._run_us = run_us
        self._per_batch = n_launches
        self.n_launches = 0
        self.busy_us = 0.0

    def advance(self) -> None:
        """See :class:`Load`."""
        self.busy_us += self._run_us()
        self.n_launches += self._per_batch

    def finish(self) -> None:
        """See :class:`Load`; a batch has finished when its call returns."""

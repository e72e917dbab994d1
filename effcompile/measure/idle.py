"""What serves one caller at a time, and is handed to those in a hurry first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")


class Idle(Generic[T]):
    """Things that wait to be used, shared by threads.

    Args:
        things: All of them, none in use.
    """

    def __init__(self, things: Iterable[T]) -> None:
        self._free = deque(things)
        self._n_urgent = 0
        self._changed = Condition()

    @contextmanager
    def taken(self, *, urgent: bool = False) -> Iterator[T]:
        """One of them for the time of the body; waits for it.

        Args:
            urgent: Go before all callers that are not, and prefer what was used last.
        """
        thing = self._take(urgent=urgent)
        try:
            yield thing
        finally:
            with self._changed:
                self._free.append(thing)
                self._changed.notify_all()

    def _take(self, *, urgent: bool) -> T:
        with self._changed:
            self._n_urgent += urgent
            self._changed.wait_for(lambda: self._free and (urgent or not self._n_urgent))
            self._n_urgent -= urgent
            self._changed.notify_all()
            return self._free.pop() if urgent else self._free.popleft()

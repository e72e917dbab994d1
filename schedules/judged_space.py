"""Design spaces of hundreds of thousands of points, judged as arrays: what can run, how fast."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from schedules.knobs import KnobSpace, Value, Values

Grid = Any
"""An array over points, or one number; values of different knobs broadcast with each other."""

MOST_SLOWER = 1.4
LEGAL = -1


def ceil_div(a: Grid, b: Grid) -> Grid:
    """How many pieces of ``b`` hold ``a``."""
    return -(-a // b)


class JudgedSpace(KnobSpace):
    """A family that can tell faults and an estimated time of all its points at once.

    Few trials are spent on a task of a large network, so a space holds only points that promise
    something: those whose estimate is not much above the least one.

    Attributes:
        faults: Sentences, in the order of :meth:`judge`.
        patience: How many times the least estimate a point's may be.
    """

    faults: tuple[str, ...]
    patience: float = MOST_SLOWER

    @abstractmethod
    def judge(self, values: Mapping[str, Grid]) -> list[Grid]:
        """Whether each of the faults applies."""

    @abstractmethod
    def estimate(self, values: Mapping[str, Grid]) -> Grid:
        """Cycles of points that have no fault; anything for others."""

    @cached_property
    def _judged(self) -> np.ndarray:
        """The number of the first fault of every point, ``LEGAL`` if it has none."""
        names = [knob.name for knob in self.knobs]
        axes = (np.array(knob.values, dtype=np.int64) for knob in self.knobs)
        values = dict(zip(names, np.meshgrid(*axes, indexing="ij", sparse=True), strict=True))
        judged = np.full([len(knob.values) for knob in self.knobs], LEGAL, dtype=np.int8)
        with np.errstate(divide="ignore", invalid="ignore"):
            for number, applies in enumerate(self.judge(values)):
                np.copyto(judged, number, where=applies & (judged == LEGAL))
            cycles = np.broadcast_to(self.estimate(values), judged.shape)
        least = np.min(cycles, where=judged == LEGAL, initial=np.inf)
        slow = (judged == LEGAL) & (cycles > self.patience * least)
        np.copyto(judged, len(self.faults), where=slow)
        return judged

    def refusal(self, values: Values) -> str | None:
        """Limits of the device, and points that promise little."""
        index = tuple(knob.values.index(values[knob.name]) for knob in self.knobs)
        number = int(self._judged[index])
        slow = f"it is expected to take more than {self.patience} times as long as another point"
        return None if number == LEGAL else (*self.faults, slow)[number]

    def _legal(self) -> Iterator[dict[str, Value]]:
        for index in np.argwhere(self._judged == LEGAL):
            yield {knob.name: knob.values[i] for knob, i in zip(self.knobs, index, strict=True)}

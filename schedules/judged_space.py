"""Design spaces of hundreds of thousands of points, judged as arrays: what can run, how fast."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from schedules.knobs import KnobSpace, Value, Values, first_fault

Grid = Any
"""An array over points, or one number; values of different knobs broadcast with each other."""

MOST_SLOWER = 1.4
FEWEST_DRAWN = 48
"""Where estimates are alike, or all points are short, they say little."""


def ceil_div(a: Grid, b: Grid) -> Grid:
    """How many pieces of ``b`` hold ``a``."""
    return -(-a // b)


def whole_numbers(values: Values) -> dict[str, int]:
    """Values of knobs that are all numbers, as the decisions of a schedule."""
    return {name: int(value) for name, value in values.items()}


def promising(cycles: np.ndarray, patience: float) -> np.ndarray:
    """Which points to draw: the few best, and all up to a multiple of the least estimate.

    Args:
        cycles: Estimates of all legal points.
        patience: That multiple.
    """
    if len(cycles) <= FEWEST_DRAWN:
        return np.ones(len(cycles), dtype=bool)
    few = np.partition(cycles, FEWEST_DRAWN - 1)[FEWEST_DRAWN - 1]
    found: np.ndarray = cycles <= max(few, patience * cycles.min())
    return found


class JudgedSpace(KnobSpace):
    """A family that can tell faults and an estimated time of all its points at once.

    Few trials are spent on a task of a large network, so only points are drawn that promise
    something: those whose estimate is not much above the least one. Others are legal, and may be
    reached by changing decisions. Nothing but drawing looks at all points: processes that build
    candidates need not.

    Attributes:
        patience: How many times the least estimate that of a drawn point may be.
    """

    patience: float = MOST_SLOWER

    @abstractmethod
    def judge(self, values: Mapping[str, Grid]) -> dict[str, Grid]:
        """Faults, and whether each applies; the first that does is a point's refusal."""

    @abstractmethod
    def estimate(self, values: Mapping[str, Grid]) -> Grid:
        """Cycles of points that have no fault; anything for others."""

    def refusal(self, values: Values) -> str | None:
        """Limits of the device, and points that another point already stands for."""
        return first_fault(self.judge(values))

    @cached_property
    def estimates(self) -> np.ndarray:
        """Of every point; see :meth:`KnobSpace.estimates`."""
        names = [knob.name for knob in self.knobs]
        values = {name: np.array([point[name] for point in self.points]) for name in names}
        return np.broadcast_to(self.estimate(values), len(self.points)).astype(np.float64)

    def _legal(self) -> Iterator[dict[str, Value]]:
        for index in np.argwhere(self._promising()):
            yield {knob.name: knob.values[i] for knob, i in zip(self.knobs, index, strict=True)}

    def _promising(self) -> np.ndarray:
        """Which points of the grid of all values have no fault, and may be fast."""
        names = [knob.name for knob in self.knobs]
        axes = (np.array(knob.values, dtype=np.int64) for knob in self.knobs)
        values = dict(zip(names, np.meshgrid(*axes, indexing="ij", sparse=True), strict=True))
        legal = np.ones([len(knob.values) for knob in self.knobs], dtype=bool)
        with np.errstate(divide="ignore", invalid="ignore"):
            for applies in self.judge(values).values():
                legal &= ~applies
            cycles = np.broadcast_to(self.estimate(values), legal.shape)
        least = np.min(cycles, where=legal, initial=np.inf)
        promising: np.ndarray = legal & (cycles <= self.patience * least)
        return promising

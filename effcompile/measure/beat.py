"""How regularly a counter steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from effcompile.measure.statistics import student_t
from effcompile.measure.windows import Reading, steps_of

# Sightings up to one polling interval late scatter by its length over the root of twelve.
LATE_SHARE = 0.6
LATE_S = 0.0005
# Steps farther from the line than this many typical ones, if most are near, were seen too late.
MOST_DEVIATIONS = 3.0
LEAST_IN_TIME = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """How regularly a counter steps.

    Attributes:
        period_s: Mean time between steps, by a straight line through all of them.
        period_ci95_s: Half width of its 95 % interval.
        jitter_s: Standard deviation around that line.
        is_regular: True if late sightings explain the jitter.
    """

    period_s: float
    period_ci95_s: float
    jitter_s: float
    is_regular: bool


def beat_of(readings: Sequence[Reading]) -> Beat | None:
    """The beat of a counter; ``None`` with fewer than four steps."""
    times = np.array([step.time_s for step in steps_of(readings)])
    if len(times) < 4:
        return None
    gaps = np.diff(times)
    numbers = np.concatenate([[0.0], np.cumsum(np.maximum(1, np.rint(gaps / np.median(gaps))))])
    poll_s = float(np.median(np.diff([reading.time_s for reading in readings])))
    period_s, residuals = _line(numbers, times)
    # A host that was busy elsewhere sees a step some milliseconds late: that is not the counter's.
    away_s = np.abs(residuals)
    seen_in_time = away_s <= poll_s / 2 + MOST_DEVIATIONS * float(np.median(away_s))
    if LEAST_IN_TIME * len(times) <= seen_in_time.sum() < len(times):
        numbers, times = numbers[seen_in_time], times[seen_in_time]
        period_s, residuals = _line(numbers, times)
    jitter_s = float(np.sqrt(np.sum(residuals**2) / (len(times) - 2)))
    # A counter that moves between any two readings has no beat that could be seen.
    is_slow = period_s > 4 * poll_s
    return Beat(
        period_s=float(period_s),
        period_ci95_s=_slope_ci95(numbers, max(jitter_s, poll_s / 12**0.5)),
        jitter_s=jitter_s,
        is_regular=bool(is_slow and jitter_s <= LATE_SHARE * poll_s + LATE_S),
    )


def _line(numbers: np.ndarray, times: np.ndarray) -> tuple[float, np.ndarray]:
    """Slope of the best line, and how far every time lies from it."""
    slope, start = np.polyfit(numbers, times, 1)
    return float(slope), times - (start + slope * numbers)


def _slope_ci95(numbers: np.ndarray, scatter_s: float) -> float:
    """Half width of the slope's interval; readings in step with the counter hide its scatter."""
    n = len(numbers)
    return student_t(n - 2) * scatter_s / float(numbers.std() * np.sqrt(n))

"""What was read of a counter, and the moments at which it moved."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Counter and progress at one moment.

    Attributes:
        time_s: Monotonic clock.
        counter_mj: The meter's counter.
        n_launches: Launches finished.
        busy_us: Time they took.
    """

    time_s: float
    counter_mj: float
    n_launches: int
    busy_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A move of the counter, which fell between two readings.

    Attributes:
        time_s: The middle between them.
        blind_s: Time between them.
        counter_mj: The counter after it.
        n_launches: Launches finished when it was seen.
        busy_us: Time they took.
    """

    time_s: float
    blind_s: float
    counter_mj: float
    n_launches: int
    busy_us: float


def steps_of(readings: Sequence[Reading]) -> list[Step]:
    """Every move of the counter that was seen, in order of time."""
    return [
        Step(
            time_s=(old.time_s + now.time_s) / 2,
            blind_s=now.time_s - old.time_s,
            counter_mj=now.counter_mj,
            n_launches=now.n_launches,
            busy_us=now.busy_us,
        )
        for old, now in itertools.pairwise(readings)
        if now.counter_mj != old.counter_mj
    ]

"""Counter and instant power of a meter, read for some time under one load or none."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from effcompile.measure.loads import Load
from effcompile.measure.meters import Meter
from effcompile.measure.observation import read_now
from effcompile.measure.windows import Reading, steps_of


class IdleLoad:
    """Nothing, for as long as one polling interval."""

    n_launches = 0
    busy_us = 0.0

    def __init__(self, pause: Callable[[float], None] = time.sleep) -> None:
        self._pause = pause

    def advance(self) -> None:
        """See ``loads.Load``."""
        self._pause(0.001)

    def finish(self) -> None:
        """See ``loads.Load``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Counter and instant power under one load.

    Attributes:
        readings: Of the counter, in order of time.
        instant_w: The device's own power, by the time it was read.
        memory_w: The memory's part of it at the end.
    """

    readings: Sequence[Reading]
    instant_w: Sequence[tuple[float, float]]
    memory_w: float | None


def look(load: Load, meter: Meter, seconds: float, clock: Callable[[], float]) -> Look:
    """Read a meter for some time while a load runs.

    Raises:
        MeterUnavailable: It cannot be read any more.
    """
    readings: list[Reading] = []
    instant: list[tuple[float, float]] = []
    end_s = clock() + seconds
    try:
        while clock() < end_s:
            load.advance()
            readings.append(read_now(load, meter, clock))
            power_w = meter.power_w()
            if power_w is not None:
                instant.append((clock(), power_w))
        memory_w = meter.memory_power_w()
    finally:
        load.finish()
    return Look(readings=readings, instant_w=instant, memory_w=memory_w)


def idle_w(readings: Sequence[Reading]) -> float | None:
    """Power between the outer steps; ``None`` with fewer than two."""
    steps = steps_of(readings)
    if len(steps) < 2:
        return None
    spent_j = (steps[-1].counter_mj - steps[0].counter_mj) / 1000
    return spent_j / (steps[-1].time_s - steps[0].time_s)

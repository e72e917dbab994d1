"""What an energy meter shows of an idle device, in words."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from effcompile.errors import MeterUnavailable
from effcompile.measure.look import IdleLoad, idle_w, look
from effcompile.measure.meters import Meter
from effcompile.measure.windows import steps_of

WATCHED_S = 0.6


def idle_text(
    meter: Meter,
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> str:
    """Step period, cost of a reading, idle power, and what else the driver tells.

    Raises:
        MeterUnavailable: The counter cannot be read, or does not move.
    """
    found = look(IdleLoad(pause), meter, WATCHED_S, clock)
    steps = [step.time_s for step in steps_of(found.readings)]
    if not steps:
        raise MeterUnavailable(f"the counter stood still for {WATCHED_S * 1000:.0f} ms.")
    if len(steps) < 3:
        return f"counter readable, {len(steps)} steps within {WATCHED_S * 1000:.0f} ms"
    begin_s = clock()
    meter.counter_mj()
    call_ms = (clock() - begin_s) * 1000
    power_w = idle_w(found.readings)
    parts = [
        f"counter steps every {np.median(np.diff(steps)) * 1000:.1f} ms",
        f"{call_ms:.1f} ms a reading",
        f"{power_w:.0f} W now" if power_w is not None else "power unknown",
        "instant power told" if found.instant_w else "instant power not told",
        "memory power not told" if found.memory_w is None else f"memory {found.memory_w:.0f} W",
    ]
    return ", ".join(parts)

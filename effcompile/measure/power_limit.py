"""The window of an observation, which a device at its power limit closes in another way."""

from __future__ import annotations

from collections.abc import Sequence

from effcompile.measure.meters import DeviceState
from effcompile.measure.windows import Experience, Reading, Window, held_window, steady_window
from search.trial import NEAR_LIMIT


def window_of(
    readings: Sequence[Reading], experience: Experience, states: Sequence[DeviceState]
) -> tuple[Window | None, bool]:
    """The window so far, and whether the device was held at its power limit in it."""
    held = held_window(readings, experience)
    if held is not None and _is_held(held, states):
        return held, True
    steady = steady_window(readings, experience)
    return steady, steady is not None and _is_held(steady, states)


def _is_held(window: Window, states: Sequence[DeviceState]) -> bool:
    """Whether power, clock and time are what a limit allows: it is exceeded, or power is near it
    while the driver says that it limits.
    """
    limit_w = states[-1].power_limit_w if states else None
    if not limit_w:
        return False
    is_limited = any("sw_power_cap" in one.throttle_reasons for one in states)
    return window.power_w > limit_w or (
        is_limited and abs(window.power_w / limit_w - 1.0) < NEAR_LIMIT
    )

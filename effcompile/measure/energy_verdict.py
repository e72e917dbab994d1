"""Why what was read around a window gives no energy, if so."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from effcompile.measure.observation import STALL_S, Effort, Observation
from effcompile.measure.windows import MIN_BLOCKS, Reading, Window, steps_of
from search.trial import Conditions, Verdict

# Clocks of one window may differ by this share before its number is refused.
CLOCK_DRIFT_SHARE = 0.03
# Power of the two halves of one window may differ by this share.
TREND_SHARE = 0.05


def problem_of(
    observation: Observation,
    window: Window | None,
    conditions: Conditions,
    effort: Effort,
    *,
    is_held: bool,
) -> tuple[Verdict, str] | None:
    """Verdict and reason where there is no number; ``None`` where there is one, and a window.

    Args:
        observation: What was read.
        window: The window in it, ``None`` without one.
        conditions: Of the device meanwhile.
        effort: What was asked for.
        is_held: Whether the device was held at its power limit in the window.
    """
    readings = observation.readings
    if observation.lost:
        return Verdict.METER_LOST, observation.lost
    if any(now.counter_mj < old.counter_mj for old, now in itertools.pairwise(readings)):
        return Verdict.COUNTER_RESET, "the energy counter went backwards inside the window."
    return (
        _stall_problem(readings)
        or _load_problem(observation)
        or _limit_problem(conditions)
        or _length_problem(readings, window, effort)
        or _clock_problem(conditions, is_held=is_held)
        or (None if is_held else _trend_problem(window))
    )


def _stall_problem(readings: Sequence[Reading]) -> tuple[Verdict, str] | None:
    steps = steps_of(readings)
    waited_s = readings[-1].time_s - steps[-1].time_s if steps else 0.0
    if len(steps) < 2:
        return Verdict.COUNTER_STALLED, f"the energy counter moved {len(steps)} times in all."
    if waited_s >= STALL_S:
        return (
            Verdict.COUNTER_STALLED,
            f"the energy counter stopped after {len(steps)} steps and stood still for "
            f"{waited_s:.1f} s.",
        )
    return None


def _load_problem(observation: Observation) -> tuple[Verdict, str] | None:
    foreign = max((state.n_foreign_processes for state in observation.states), default=0)
    if foreign:
        return Verdict.FOREIGN_LOAD, f"{foreign} other compute processes are on the device."
    return None


def _limit_problem(conditions: Conditions) -> tuple[Verdict, str] | None:
    limits = conditions.power_limit_w
    if limits and max(limits) != min(limits):
        found = f"{limits[0]:.0f} to {limits[-1]:.0f} W"
        return Verdict.LIMIT_CHANGED, f"somebody changed the device's power limit from {found}."
    return None


def _length_problem(
    readings: Sequence[Reading], window: Window | None, effort: Effort
) -> tuple[Verdict, str] | None:
    if window is None:
        return _too_short(readings, effort)
    if window.last.n_launches == window.first.n_launches:
        return Verdict.TOO_SHORT, "no launch finished inside the window. Use a longer window."
    return None


def _too_short(readings: Sequence[Reading], effort: Effort) -> tuple[Verdict, str]:
    steps = steps_of(readings)
    found_ms = (steps[-1].time_s - steps[0].time_s) * 1000 if steps else 0.0
    return (
        Verdict.TOO_SHORT,
        f"{len(steps)} counter steps over {found_ms:.0f} ms; expected at least {MIN_BLOCKS + 1} "
        f"within a window of {effort.window_ms:.0f} ms. Use a longer window.",
    )


def _clock_problem(conditions: Conditions, *, is_held: bool) -> tuple[Verdict, str] | None:
    thermal = [reason for reason in conditions.throttle_reasons if reason != "sw_power_cap"]
    if thermal:
        return Verdict.CLOCK_CHANGED, f"the device slowed itself down: {', '.join(thermal)}."
    clocks = conditions.clock_mhz
    # At the power limit the clock is what the device controls: it moves, and power does not.
    if not clocks or is_held or "sw_power_cap" in conditions.throttle_reasons:
        return None
    if max(clocks) - min(clocks) > CLOCK_DRIFT_SHARE * max(clocks):
        return Verdict.CLOCK_CHANGED, f"the clock went from {clocks[0]} to {clocks[-1]} MHz."
    return None


def _trend_problem(window: Window | None) -> tuple[Verdict, str] | None:
    if window is not None and abs(window.trend_share) > TREND_SHARE:
        return (
            Verdict.UNSETTLED,
            f"power was still changing: {window.trend_share:+.1%} from the first half of the "
            "window to the second.",
        )
    return None

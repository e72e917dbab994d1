"""Energy of one launch, from a counter that moves in steps.

    load    ==================================================  (no gaps)
    counter ......|.......|.......|.......|.......|............
                          ^ settled       ^ last step of the window

Power is the counter's difference between two visible steps over the time between them;
energy per launch is that power times the time per launch over the same span. Observing
touches clock, load and meter; everything that decides about numbers is
:func:`evaluate`, a pure function of what was read.

What the numbers mean, and when they are refused: docs/measuring.md.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from effcompile.errors import MeterUnavailable
from effcompile.measure.loads import Load
from effcompile.measure.meters import DeviceState, Meter, NoMeter, conditions_of
from effcompile.measure.windows import (
    MIN_BLOCKS,
    NO_EXPERIENCE,
    Experience,
    Reading,
    Window,
    held_window,
    last_window,
    steady_window,
    steps_of,
)
from search.trial import NEAR_LIMIT, Conditions, EnergyMeasurement, Verdict

# Clocks of one window may differ by this share before its number is refused.
CLOCK_DRIFT_SHARE = 0.03
# Power of the two halves of one window may differ by this share.
TREND_SHARE = 0.05
# Without a step for this long (but at least twenty periods) the counter counts as stalled.
STALL_S = 2.0
# Three periods of 99.8 ms are a window of 300 ms.
WHOLE_WINDOW_SHARE = 0.98
# A fast counter steps at every reading; a window is looked at less often.
LOOK_AGAIN_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to look.

    Attributes:
        window_ms: Longest window; it closes then, however wide its interval.
        settle_ms: Longest wait for power to settle before the load counts as unsteady.
        precision: The window closes when its 95 % interval is within this share of its
            power to either side; 0 always takes the longest.
        matters_below_mj: An energy that a candidate must stay under to matter: once its
            whole interval lies above, nothing is gained by looking longer. ``None`` for any.
    """

    window_ms: float
    settle_ms: float = 1000.0
    precision: float = 0.0
    matters_below_mj: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Everything read around one window.

    Attributes:
        readings: In order of time, from the start of the load on.
        states: Device state under load, before and after.
        lost: Why the meter could not be read any more, empty if it could.
    """

    readings: Sequence[Reading]
    states: Sequence[DeviceState]
    lost: str = ""


def observe(
    load: Load,
    meter: Meter,
    *,
    effort: Effort,
    experience: Experience = NO_EXPERIENCE,
    clock: Callable[[], float] = time.monotonic,
) -> Observation:
    """Keep a load running and read the meter until a window has closed.

    Args:
        load: What to measure.
        meter: What to read.
        effort: How long.
        experience: What is known of the meter.
        clock: Seconds.
    """
    watch = _Watch(load, meter, effort, experience, clock)
    lost = ""
    try:
        watch.run()
    except MeterUnavailable as error:
        lost = str(error)
    finally:
        load.finish()
    return Observation(readings=watch.readings, states=watch.states, lost=lost)


class _Watch:
    """Reads until a window has closed; keeps what it read whatever happens."""

    def __init__(
        self,
        load: Load,
        meter: Meter,
        effort: Effort,
        experience: Experience,
        clock: Callable[[], float],
    ) -> None:
        self.readings: list[Reading] = []
        self.states: list[DeviceState] = []
        self._load, self._meter, self._clock = load, meter, clock
        self._effort, self._experience = effort, experience

    def run(self) -> None:
        """Read until there is enough, or until the counter stands still."""
        stall_s = max(STALL_S, 20 * self._meter.period_ms / 1000)
        begin_s = last_step_s = looked_s = self._clock()
        while not self.readings or self.readings[-1].time_s - last_step_s <= stall_s:
            self._load.advance()
            reading = _read(self._load, self._meter, self._clock)
            stepped = bool(self.readings) and reading.counter_mj != self.readings[-1].counter_mj
            self.readings.append(reading)
            if not stepped:
                continue
            # Not at once: a device that was idle needs a moment to raise its clocks.
            if not self.states:
                self.states.append(self._meter.state())
            last_step_s = reading.time_s
            if reading.time_s - looked_s >= LOOK_AGAIN_S:
                looked_s = reading.time_s
                if self._may_close(reading.time_s - begin_s):
                    break
        self.states.append(self._meter.state())

    def _may_close(self, load_s: float) -> bool:
        """Whether there is enough; what does not settle may be held at a limit by now."""
        window, _ = _window_of(self.readings, self._experience, self.states)
        if window is None and held_window(self.readings, self._experience) is not None:
            states = [*self.states, self._meter.state()]
            window, _ = _window_of(self.readings, self._experience, states)
        return _is_enough(window, self._effort, load_s)


def _window_of(
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


def _is_enough(window: Window | None, effort: Effort, load_s: float) -> bool:
    if window is None:
        return load_s * 1000 >= effort.settle_ms + effort.window_ms
    if window.span_s * 1000 >= effort.window_ms * WHOLE_WINDOW_SHARE:
        return True
    if effort.precision > 0 and window.ci95_w <= effort.precision * window.power_w:
        return True
    if effort.matters_below_mj is None or window.last.n_launches == window.first.n_launches:
        return False
    lowest_mj = (window.power_w - window.ci95_w) * _latency_us(window) / 1000
    return lowest_mj > effort.matters_below_mj


def _latency_us(window: Window) -> float:
    first, last = window.first, window.last
    return (last.busy_us - first.busy_us) / (last.n_launches - first.n_launches)


def _read(load: Load, meter: Meter, clock: Callable[[], float]) -> Reading:
    begin = clock()
    counter_mj = meter.counter_mj()
    # A call takes up to some milliseconds; the value belongs to its middle.
    return Reading(
        time_s=(begin + clock()) / 2,
        counter_mj=counter_mj,
        n_launches=load.n_launches,
        busy_us=load.busy_us,
    )


def evaluate(
    observation: Observation,
    *,
    meter: str,
    effort: Effort,
    experience: Experience = NO_EXPERIENCE,
    cache: str = "hot",
) -> EnergyMeasurement:
    """Energy per launch with its verdict.

    Args:
        observation: What was read.
        meter: Name of the meter.
        effort: What was asked for.
        experience: What is known of the meter.
        cache: ``hot`` or ``cold``.
    """
    conditions = Conditions(**conditions_of(observation.states))
    readings = observation.readings
    window, is_held = _window_of(readings, experience, observation.states)
    window = window or last_window(readings, experience)
    problem = _problem(observation, window, conditions, effort, is_held=is_held)
    if problem is not None or window is None:
        verdict, reason = problem or _too_short(readings, effort)
        return EnergyMeasurement(
            energy_mj=None,
            meter=meter,
            cache=cache,
            n_steps=len(steps_of(readings)),
            load_ms=_load_ms(readings),
            conditions=conditions,
            verdict=verdict,
            reason=reason,
        )
    capped = is_held or "sw_power_cap" in conditions.throttle_reasons
    latency_us = _latency_us(window)
    return EnergyMeasurement(
        energy_mj=window.power_w * latency_us / 1000,
        ci95_mj=window.ci95_w * latency_us / 1000,
        power_w=window.power_w,
        sustained_latency_us=latency_us,
        window_ms=window.span_s * 1000,
        window_energy_mj=window.last.counter_mj - window.first.counter_mj,
        n_steps=window.n_steps,
        load_ms=_load_ms(readings),
        meter=meter,
        cache=cache,
        conditions=conditions,
        verdict=Verdict.POWER_CAPPED if capped else Verdict.OK,
        reason="the device was at its power limit." if capped else "",
    )


def _load_ms(readings: Sequence[Reading]) -> float:
    return (readings[-1].time_s - readings[0].time_s) * 1000 if readings else 0.0


def _problem(
    observation: Observation,
    window: Window | None,
    conditions: Conditions,
    effort: Effort,
    *,
    is_held: bool,
) -> tuple[Verdict, str] | None:
    """Why there is no number, if so."""
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


def unmeasured(meter: NoMeter) -> EnergyMeasurement:
    """The record of an energy that nobody measured, with the reason."""
    return EnergyMeasurement(
        energy_mj=None,
        meter="none",
        verdict=Verdict.NO_PERMISSION if meter.denied else Verdict.UNMEASURED,
        reason=meter.reason,
    )

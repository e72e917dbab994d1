"""Energy of one launch, from a counter that moves in steps.

    load    ==================================================  (no gaps)
    counter ......|.......|.......|.......|.......|............
                  settle          ^ first          ^ last step of the window

Power is the counter's difference between two visible steps over the time between them,
so the step period drops out of the error; energy per launch is that power times the time
per launch over the same span. Collecting touches clock, load and meter; everything that
decides about numbers is :func:`evaluate`, a pure function of what was read.

What the numbers mean, and when they are refused: docs/measuring.md.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from effcompile.errors import MeterUnavailable
from effcompile.measure.meters import DeviceState, Meter, NoMeter, conditions_of
from effcompile.measure.statistics import student_t
from search.trial import Conditions, EnergyMeasurement, Verdict

# Clocks of one window may differ by this share before its number is refused.
CLOCK_DRIFT_SHARE = 0.03
# Without a step for this long (but at least twenty periods) the counter counts as stalled.
STALL_S = 2.0
MIN_STEPS = 3
MIN_WINDOW_SHARE = 0.5


class Load(Protocol):
    """A kernel launched over and over.

    Attributes:
        n_launches: Launches finished so far.
        busy_us: Time they took.
    """

    n_launches: int
    busy_us: float

    def advance(self) -> None:
        """Keep the device busy for longer than one reading of the meter takes."""

    def finish(self) -> None:
        """Stop launching and wait."""


class HostLoad:
    """Launches on this processor, in short batches between two readings."""

    def __init__(self, run_us: Callable[[], float], n_launches: int) -> None:
        self._run_us = run_us
        self._per_batch = n_launches
        self.n_launches = 0
        self.busy_us = 0.0

    def advance(self) -> None:
        """See :class:`Load`."""
        self.busy_us += self._run_us()
        self.n_launches += self._per_batch

    def finish(self) -> None:
        """See :class:`Load`; a batch has finished when its call returns."""


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
class Observation:
    """Everything read around one window.

    Attributes:
        readings: In order of time, from the first settled moment on.
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
    settle_ms: float,
    window_ms: float,
    clock: Callable[[], float] = time.monotonic,
) -> Observation:
    """Keep a load running and read the meter until a window has closed.

    Args:
        load: What to measure.
        meter: What to read.
        settle_ms: Load before the first reading counts.
        window_ms: Shortest time between the window's outer steps.
        clock: Seconds.
    """
    readings: list[Reading] = []
    states: list[DeviceState] = []
    lost = ""
    try:
        settled_at = clock() + settle_ms / 1000
        while clock() < settled_at:
            load.advance()
        states.append(meter.state())
        load.advance()
        _read_until_closed(load, meter, window_ms / 1000, clock, readings)
        states.append(meter.state())
    except MeterUnavailable as error:
        lost = str(error)
    finally:
        load.finish()
    return Observation(readings=readings, states=states, lost=lost)


def _read_until_closed(
    load: Load,
    meter: Meter,
    window_s: float,
    clock: Callable[[], float],
    readings: list[Reading],
) -> None:
    stall_s = max(STALL_S, 20 * meter.period_ms / 1000)
    first_step_s: float | None = None
    last_step_s = clock()
    while True:
        load.advance()
        reading = _read(load, meter, clock)
        stepped = bool(readings) and reading.counter_mj != readings[-1].counter_mj
        readings.append(reading)
        if stepped:
            last_step_s = reading.time_s
            if first_step_s is None:
                first_step_s = reading.time_s
            if reading.time_s - first_step_s >= window_s:
                return
        if reading.time_s - last_step_s > stall_s:
            return


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
    observation: Observation, *, window_ms: float, meter: str, cache: str = "hot"
) -> EnergyMeasurement:
    """Energy per launch with its verdict.

    Args:
        observation: What was read.
        window_ms: Length asked for.
        meter: Name of the meter.
        cache: ``hot`` or ``cold``.
    """
    conditions = Conditions(**conditions_of(observation.states))
    steps = _steps(observation.readings)
    problem = _problem(observation, steps, conditions, window_ms)
    if problem is not None:
        return EnergyMeasurement(
            energy_mj=None,
            meter=meter,
            cache=cache,
            n_steps=len(steps),
            conditions=conditions,
            verdict=problem[0],
            reason=problem[1],
        )
    capped = "sw_power_cap" in conditions.throttle_reasons
    first, last = steps[0], steps[-1]
    window_s = last.time_s - first.time_s
    window_energy_mj = last.counter_mj - first.counter_mj
    power_w = window_energy_mj / 1000 / window_s
    latency_us = (last.busy_us - first.busy_us) / (last.n_launches - first.n_launches)
    return EnergyMeasurement(
        energy_mj=power_w * latency_us / 1000,
        ci95_mj=_power_ci95_w(observation.readings, steps) * latency_us / 1000,
        power_w=power_w,
        sustained_latency_us=latency_us,
        window_ms=window_s * 1000,
        window_energy_mj=window_energy_mj,
        n_steps=len(steps),
        meter=meter,
        cache=cache,
        conditions=conditions,
        verdict=Verdict.POWER_CAPPED if capped else Verdict.OK,
        reason="the device was at its power limit." if capped else "",
    )


def _steps(readings: Sequence[Reading]) -> list[Reading]:
    """The readings at which the counter had just moved."""
    return [now for old, now in itertools.pairwise(readings) if now.counter_mj != old.counter_mj]


def _problem(
    observation: Observation,
    steps: Sequence[Reading],
    conditions: Conditions,
    window_ms: float,
) -> tuple[Verdict, str] | None:
    """Why there is no number, if so."""
    if observation.lost:
        return Verdict.METER_LOST, observation.lost
    if any(
        now.counter_mj < old.counter_mj for old, now in itertools.pairwise(observation.readings)
    ):
        return Verdict.COUNTER_RESET, "the energy counter went backwards inside the window."
    if len(steps) < 2:
        return Verdict.COUNTER_STALLED, f"the energy counter moved {len(steps)} times in all."
    return (
        _load_problem(observation)
        or _length_problem(steps, window_ms)
        or _clock_problem(conditions)
    )


def _load_problem(observation: Observation) -> tuple[Verdict, str] | None:
    foreign = max((state.n_foreign_processes for state in observation.states), default=0)
    if foreign:
        return Verdict.FOREIGN_LOAD, f"{foreign} other compute processes are on the device."
    return None


def _length_problem(steps: Sequence[Reading], window_ms: float) -> tuple[Verdict, str] | None:
    found_ms = (steps[-1].time_s - steps[0].time_s) * 1000
    if len(steps) < MIN_STEPS or found_ms < MIN_WINDOW_SHARE * window_ms:
        return (
            Verdict.TOO_SHORT,
            f"{len(steps)} counter steps over {found_ms:.0f} ms; expected at least {MIN_STEPS} "
            f"over {window_ms:.0f} ms. Use a longer window.",
        )
    if steps[-1].n_launches == steps[0].n_launches:
        return Verdict.TOO_SHORT, "no launch finished inside the window. Use a longer window."
    return None


def _clock_problem(conditions: Conditions) -> tuple[Verdict, str] | None:
    thermal = [reason for reason in conditions.throttle_reasons if reason != "sw_power_cap"]
    if thermal:
        return Verdict.CLOCK_CHANGED, f"the device slowed itself down: {', '.join(thermal)}."
    clocks = conditions.clock_mhz
    # At the power limit the clock is what the device controls: it moves, and power does not.
    if not clocks or "sw_power_cap" in conditions.throttle_reasons:
        return None
    if max(clocks) - min(clocks) > CLOCK_DRIFT_SHARE * max(clocks):
        return Verdict.CLOCK_CHANGED, f"the clock went from {clocks[0]} to {clocks[-1]} MHz."
    return None


def _power_ci95_w(readings: Sequence[Reading], steps: Sequence[Reading]) -> float:
    """Half width of the 95 % interval of the window's mean power.

    Two sources: scatter of power between steps, and not knowing when within one polling
    interval a step fell, at either end.
    """
    times = np.array([step.time_s for step in steps])
    counters = np.array([step.counter_mj for step in steps])
    lengths = np.diff(times)
    powers = np.diff(counters) / 1000 / lengths
    window_s = float(times[-1] - times[0])
    mean_w = float((counters[-1] - counters[0]) / 1000 / window_s)
    n = len(powers)
    scatter_w = float(np.sqrt(np.average((powers - mean_w) ** 2, weights=lengths) / max(1, n - 1)))
    poll_s = float(np.median(np.diff([reading.time_s for reading in readings])))
    edge_w = mean_w * poll_s / window_s * float(np.sqrt(2 / 12))
    return float(student_t(max(1, n - 1)) * np.hypot(scatter_w, edge_w))


def unmeasured(meter: NoMeter) -> EnergyMeasurement:
    """The record of an energy that nobody measured, with the reason."""
    return EnergyMeasurement(
        energy_mj=None,
        meter="none",
        verdict=Verdict.NO_PERMISSION if meter.denied else Verdict.UNMEASURED,
        reason=meter.reason,
    )

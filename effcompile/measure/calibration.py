"""Once per run: how the meter ticks, what idling costs, how well a window repeats.

    idle (cold) | anchor, long | anchor | anchor | idle (hot)
      0.3 s         1.2 s        0.4 s    0.4 s     0.3 s

The long look gives the counter's beat and scatter, and compares the counter with the
device's instant power; the short ones are windows as candidates get them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from effcompile.measure.energy import Effort, evaluate, observe
from effcompile.measure.loads import Load
from effcompile.measure.meters import Meter
from effcompile.measure.statistics import student_t
from effcompile.measure.windows import (
    Experience,
    Reading,
    blocks_of,
    steady_window,
    steps_of,
)
from search.meter_facts import MeterFacts
from search.trial import EnergyMeasurement

IDLE_S = 0.35
LONG_S = 1.3
N_WINDOWS = 2
# Sightings up to one polling interval late scatter by its length over the root of twelve.
LATE_SHARE = 0.6
LATE_S = 0.0005
# Steps farther from the line than this many typical ones, if most are near, were seen too late.
MOST_DEVIATIONS = 3.0
LEAST_IN_TIME = 0.7
# Standard deviation over median distance, for normal scatter.
MEDIAN_TO_DEVIATION = 1.4826


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
            begin = clock()
            counter_mj = meter.counter_mj()
            readings.append(
                Reading(
                    time_s=(begin + clock()) / 2,
                    counter_mj=counter_mj,
                    n_launches=load.n_launches,
                    busy_us=load.busy_us,
                )
            )
            power_w = meter.power_w()
            if power_w is not None:
                instant.append((clock(), power_w))
        memory_w = meter.memory_power_w()
    finally:
        load.finish()
    return Look(readings=readings, instant_w=instant, memory_w=memory_w)


def calibrate(
    meter: Meter,
    make_anchor: Callable[[], Load],
    *,
    effort: Effort,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> MeterFacts:
    """Learn what a run must know of its meter.

    Args:
        meter: Not read by anybody else meanwhile.
        make_anchor: Starts the anchor kernel anew.
        effort: Of the windows that candidates get.
        clock: Seconds.
        pause: Waits for a number of seconds.

    Raises:
        MeterUnavailable: It cannot be read any more.
    """
    begin_s = clock()
    cold = look(IdleLoad(pause), meter, IDLE_S, clock)
    long = look(make_anchor(), meter, LONG_S, clock)
    beat = beat_of(long.readings)
    experience = experience_of(long.readings, beat)
    windows = [
        evaluate(
            observe(make_anchor(), meter, effort=effort, experience=experience, clock=clock),
            meter=meter.name,
            effort=effort,
            experience=experience,
        )
        for _ in range(N_WINDOWS)
    ]
    hot = look(IdleLoad(pause), meter, IDLE_S, clock)
    return _facts(
        meter=meter.name,
        cold=cold,
        long=long,
        hot=hot,
        beat=beat,
        experience=experience,
        windows=windows,
        seconds=clock() - begin_s,
    )


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


def experience_of(readings: Sequence[Reading], beat: Beat | None) -> Experience:
    """What a long look at a steady load teaches about shorter ones."""
    known = _beaten(beat)
    window = steady_window(readings, known)
    if window is None:
        return known
    inside = [one for one in readings if one.time_s >= window.first.time_s]
    blocks = blocks_of([window.first, *steps_of(inside)], known)
    powers = _usual(np.array([block.power_w for block in blocks]))
    if len(powers) < 3 or powers.mean() <= 0:
        return known
    return replace(
        known,
        scatter_share=float(powers.std(ddof=1) / powers.mean()),
        n_degrees=len(powers) - 1,
    )


def _usual(powers: np.ndarray) -> np.ndarray:
    """Without the few that lie far from the others.

    A step that a busy host saw late makes one block poor and the next one rich, and every interval
    of the run would be as wide as that.
    """
    away = np.abs(powers - np.median(powers))
    is_near = away <= MOST_DEVIATIONS * MEDIAN_TO_DEVIATION * float(np.median(away))
    return powers[is_near] if is_near.sum() >= LEAST_IN_TIME * len(powers) else powers


def _beaten(beat: Beat | None) -> Experience:
    if beat is None or not beat.is_regular:
        return Experience()
    return Experience(period_s=beat.period_s, period_share=beat.period_ci95_s / beat.period_s)


def learnt(facts: MeterFacts) -> Experience:
    """What later windows use of a calibration."""
    return Experience(
        period_s=facts.period_ms / 1000 if facts.has_beat else None,
        period_share=facts.period_ci95_ms / facts.period_ms if facts.has_beat else 0.0,
        scatter_share=facts.scatter_share,
        n_degrees=facts.n_degrees,
    )


def idle_w(readings: Sequence[Reading]) -> float | None:
    """Power between the outer steps; ``None`` with fewer than two."""
    steps = steps_of(readings)
    if len(steps) < 2:
        return None
    spent_j = (steps[-1].counter_mj - steps[0].counter_mj) / 1000
    return spent_j / (steps[-1].time_s - steps[0].time_s)


def _facts(
    *,
    meter: str,
    cold: Look,
    long: Look,
    hot: Look,
    beat: Beat | None,
    experience: Experience,
    windows: Sequence[EnergyMeasurement],
    seconds: float,
) -> MeterFacts:
    usable = [one for one in windows if one.verdict.usable and one.energy_mj is not None]
    energies = np.array([one.energy_mj for one in usable])
    powers = [one.power_w for one in usable if one.power_w is not None]
    latencies = [one.sustained_latency_us for one in usable if one.sustained_latency_us is not None]
    mean_mj = float(energies.mean()) if usable else None
    half = [one.ci95_mj for one in usable if one.ci95_mj is not None]
    times = [reading.time_s for reading in long.readings]
    settled = steady_window(long.readings, experience)
    return MeterFacts(
        meter=meter,
        period_ms=beat.period_s * 1000 if beat else 0.0,
        period_ci95_ms=beat.period_ci95_s * 1000 if beat else 0.0,
        jitter_ms=beat.jitter_s * 1000 if beat else 0.0,
        has_beat=experience.period_s is not None,
        call_ms=_call_ms(cold.readings),
        scatter_share=experience.scatter_share,
        n_degrees=experience.n_degrees,
        idle_cold_w=idle_w(cold.readings),
        idle_hot_w=idle_w(hot.readings),
        rise_ms=(settled.first.time_s - times[0]) * 1000 if settled else None,
        anchor_mj=mean_mj,
        anchor_ci95_mj=float(np.mean(half) / np.sqrt(len(half))) if half else None,
        anchor_power_w=float(np.mean(powers)) if powers else None,
        anchor_latency_us=float(np.mean(latencies)) if latencies else None,
        repeatability=float(energies.std(ddof=1) / mean_mj)
        if len(usable) > 1 and mean_mj
        else None,
        instant_share=_instant_share(long, experience),
        memory_power_w=long.memory_w,
        seconds=seconds,
    )


def _call_ms(readings: Sequence[Reading]) -> float:
    """Polling interval while idle: the call, and a millisecond of waiting."""
    gaps_ms = np.diff([one.time_s for one in readings]) * 1000
    return max(0.0, float(np.median(gaps_ms)) - 1.0) if len(gaps_ms) else 0.0


def _instant_share(long: Look, experience: Experience) -> float | None:
    window = steady_window(long.readings, experience)
    if window is None:
        return None
    inside = [
        power_w
        for time_s, power_w in long.instant_w
        if window.first.time_s <= time_s <= window.last.time_s
    ]
    return float(np.mean(inside)) / window.power_w - 1 if inside else None

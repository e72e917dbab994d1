"""Once per run: how the meter ticks, what idling costs, how well a window repeats.

    idle (cold) | anchor, long | anchor | anchor | idle (hot)
      0.3 s         1.2 s        0.4 s    0.4 s     0.3 s

The long look gives the counter's beat and scatter, and compares the counter with the
device's instant power; the short ones are windows as candidates get them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from effcompile.measure.beat import Beat, beat_of
from effcompile.measure.energy import Effort, evaluate, observe
from effcompile.measure.experience import experience_of
from effcompile.measure.loads import Load
from effcompile.measure.look import IdleLoad, Look, idle_w, look
from effcompile.measure.meters import Meter
from effcompile.measure.windows import Experience, Reading, steady_window
from search.meter_facts import MeterFacts
from search.trial import EnergyMeasurement

IDLE_S = 0.35
LONG_S = 1.3
N_WINDOWS = 2


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

"""Latency of a kernel: plan from a first run, warm up, repeat, take the median.

How launches are timed differs between processors (clock around a loop) and GPUs
(device events around a replayed graph); what is done with the times does not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from effcompile.config import MeasureConfig
from effcompile.measure.statistics import MIN_FOR_ORDER_STATISTICS, median_with_ci95
from search.trial import LatencyMeasurement, Verdict

MAX_LAUNCHES = 20_000
MIN_REPEATS = 2
WARM_UP_SHARE = 0.1
N_PROBE = 32
SHORT_US = 1000.0
# An interval wider than this share of the median says nothing about the kernel.
UNSTABLE_SHARE = 0.5
# What disturbs a measurement on a busy machine is often over by the next one.
MOST_ATTEMPTS = 3

Launch = Callable[[], None]


class Batch(Protocol):
    """A fixed number of launches that can be run again and again."""

    @property
    def n_launches(self) -> int:
        """At least as many as asked for."""

    @property
    def method(self) -> str:
        """``graph``, ``queue`` or ``loop``."""

    def run_us(self) -> float:
        """Run all launches, wait, and give their time in microseconds."""


class Stopwatch(Protocol):
    """Times launches on one kind of device."""

    def batch(self, launches: Sequence[Launch], n_launches: int) -> Batch:
        """A batch that goes through ``launches`` in turn until ``n_launches`` are done."""


@dataclass(frozen=True, slots=True)
class LoopBatch:
    """Launches from a loop on this processor, timed by the monotonic clock."""

    launches: Sequence[Launch]
    n_launches: int
    method: str = "loop"

    def run_us(self) -> float:
        """See :class:`Batch`."""
        n_whole, n_rest = divmod(self.n_launches, len(self.launches))
        begin = time.perf_counter_ns()
        for _ in range(n_whole):
            for launch in self.launches:
                launch()
        for launch in self.launches[:n_rest]:
            launch()
        return (time.perf_counter_ns() - begin) / 1000


class HostStopwatch:
    """For kernels that have finished when their call returns."""

    def batch(self, launches: Sequence[Launch], n_launches: int) -> LoopBatch:
        """See :class:`Stopwatch`."""
        return LoopBatch(launches, n_launches)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much to measure.

    Attributes:
        n_launches: Launches per repeat.
        n_repeats: Timed repeats.
        n_warm_up: Repeats run before and not counted.
    """

    n_launches: int
    n_repeats: int
    n_warm_up: int


def plan(first_us: float, config: MeasureConfig) -> Plan:
    """Fit launches and repeats into the time a candidate may take.

    Args:
        first_us: Time of one launch, as a first run saw it.
        config: Lengths wanted and the limit.
    """
    per_launch_us = max(first_us, 0.1)
    n_launches = min(MAX_LAUNCHES, max(1, math.ceil(config.repeat_ms * 1000 / per_launch_us)))
    repeat_us = n_launches * per_launch_us
    affordable = int(config.max_timing_ms * 1000 / repeat_us)
    n_repeats = max(MIN_REPEATS, min(config.n_repeats, affordable))
    spare = max(0, affordable - n_repeats)
    n_warm_up = min(spare, max(1, round(config.n_repeats * WARM_UP_SHARE)))
    return Plan(n_launches=n_launches, n_repeats=n_repeats, n_warm_up=n_warm_up)


def n_launches_for(stopwatch: Stopwatch, launches: Sequence[Launch], length_us: float) -> int:
    """How many launches make a batch of a length.

    One launch alone takes some microseconds more than one of many, and the first run of a
    batch some tens, which makes ready what it replays. Batches of short kernels that were
    planned from such times came out so short that the device waited between them.

    Args:
        stopwatch: Of the device the launches go to.
        launches: See :func:`measure_latency`.
        length_us: Of the batch.
    """
    each_us = stopwatch.batch(launches, 1).run_us()
    if each_us < SHORT_US:
        probe = stopwatch.batch(launches, N_PROBE)
        each_us = min(probe.run_us() for _ in range(2)) / probe.n_launches
    return min(MAX_LAUNCHES, math.ceil(length_us / max(each_us, 0.1)))


def measure_latency(
    stopwatch: Stopwatch, launches: Sequence[Launch], config: MeasureConfig
) -> LatencyMeasurement:
    """Latency of one launch.

    Args:
        stopwatch: Of the device the launches go to.
        launches: The same kernel on one set of buffers, or on several in turn; every
            one has run before, so nothing is loaded or allocated any more.
        config: Lengths and cache mode.
    """
    probe = stopwatch.batch(launches, 1)
    probed_us = [probe.run_us() for _ in range(MIN_REPEATS)]
    if min(probed_us) > config.max_timing_ms * 1000:
        return _summary([each / probe.n_launches for each in probed_us], probe, config)
    planned = plan(min(probed_us), config)
    batch = stopwatch.batch(launches, planned.n_launches)
    for _ in range(planned.n_warm_up):
        batch.run_us()
    for _ in range(MOST_ATTEMPTS):
        measured = _measured(batch, planned, config)
        if measured.verdict is Verdict.OK:
            break
    return measured


def _measured(batch: Batch, planned: Plan, config: MeasureConfig) -> LatencyMeasurement:
    times = [batch.run_us() / batch.n_launches for _ in range(planned.n_repeats)]
    return _summary(times, batch, config)


def _summary(times: Sequence[float], batch: Batch, config: MeasureConfig) -> LatencyMeasurement:
    latency_us, ci95_us = median_with_ci95(times)
    wide = len(times) >= MIN_FOR_ORDER_STATISTICS and ci95_us > UNSTABLE_SHARE * latency_us
    return LatencyMeasurement(
        latency_us=latency_us,
        ci95_us=ci95_us,
        n_repeats=len(times),
        n_launches=batch.n_launches,
        cache=config.cache,
        method=batch.method,
        verdict=Verdict.UNSTABLE if wide else Verdict.OK,
    )


def n_copies_for(config: MeasureConfig, *, footprint_bytes: int, cache_bytes: int) -> int:
    """Sets of buffers that one measurement rotates over.

    Cold means that a set has left the last-level cache by the time its turn comes: the
    sets together cover it twice. More than a thousand sets are never made, so kernels
    that touch less than about a thousandth of the cache stay partly warm.
    """
    if config.cache == "hot" or footprint_bytes == 0:
        return 1
    return min(1024, max(1, math.ceil(2 * cache_bytes / footprint_bytes)))

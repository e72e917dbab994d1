"""How far the energy meter of this GPU can be trusted, in three numbers.

- *Repeatability*: scatter of a kernel's energy over the anchor's
  (:mod:`effcompile.bench.meter_repeatability`).
- *Agreement*: windows of one second between counter steps against ten seconds read by the
  clock alone, out of the same load, so that nothing but the method differs.
- *The naive way*: scatter of tenths of a second read by the clock, beside it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from effcompile.bench.meter_kernels import KERNELS, MeterBench
from effcompile.bench.meter_repeatability import (
    WINDOW_S,
    MeterWindow,
    Repeatability,
    Rounds,
    scatter,
)
from effcompile.measure.energy import Effort, observe
from effcompile.measure.environment import detect_target
from effcompile.measure.experience import learnt
from effcompile.measure.steps import Reading, Step, steps_of
from effcompile.measure.windows import Experience, blocks_of
from search.meter_facts import MeterFacts

SETTLE_S = 0.5
LONG_S, SHORT_S = 10.0, 0.1
PARTS = 2
"""Of the rounds; a long look at one kernel stands before each, and warms the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Ways to read one load of ten seconds.

    Attributes:
        kernel: Which.
        naive_10s_mj: Energy per launch from two readings at any moments, mean over the moments
            within a tenth of a second at both ends.
        naive_10s_scatter: Standard deviation over these moments, as a share: the counter is up
            to a period old when it is read.
        aligned_1s_mj: Mean of windows of a second between steps.
        n_aligned: How many.
        mean_difference: Their mean over the naive one, minus 1.
        worst_difference: The largest of any window's, by magnitude.
        aligned_1s_scatter: Standard deviation of the windows, as a share.
        naive_100ms_scatter: Of tenths of a second read by the clock, likewise.
    """

    kernel: str
    naive_10s_mj: float
    naive_10s_scatter: float
    aligned_1s_mj: float
    n_aligned: int
    mean_difference: float
    worst_difference: float
    aligned_1s_scatter: float
    naive_100ms_scatter: float


Watch = Callable[[Repeatability | Agreement], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterPrecision:
    """Everything that was found.

    Attributes:
        meter: Its calibration.
        repeatability: By kernel.
        agreement: By kernel.
        windows: Behind the repeatability, anchors included, in order.
    """

    meter: MeterFacts
    repeatability: Sequence[Repeatability]
    agreement: Sequence[Agreement]
    windows: Sequence[MeterWindow]


def bench_meter(
    folder: Path, *, n_rounds: int, minutes: float = 0.0, watch: Watch
) -> MeterPrecision:
    """Everything about this machine's GPU; at least ``5.5 n_rounds + 45`` seconds.

    Args:
        folder: For libraries and logs.
        n_rounds: Windows of every kernel.
        minutes: From the first round to the last, the long look between them included.
        watch: Told of every number, of repeatability whenever there is a better one.
    """
    bench = MeterBench(detect_target("cuda"), folder)
    facts = bench.session.learn_meter(bench.anchor_library, reference=None, known=None)
    experience = learnt(facts)
    between_s = LONG_S * (len(KERNELS) - 1)
    rounds = Rounds(bench.window, pause_s=max(0.0, 60.0 * minutes - between_s) / n_rounds)
    agreements: list[Agreement] = []
    for name, n in zip(KERNELS, _halves(n_rounds), strict=True):
        agreements.append(_long_look(bench, name, experience))
        watch(agreements[-1])
        if not rounds.windows:
            rounds.warm_up()
        rounds.run(n)
        for row in rounds.rows():
            watch(row)
    return MeterPrecision(
        meter=facts,
        repeatability=rounds.rows(),
        agreement=agreements,
        windows=rounds.windows,
    )


def _halves(n: int) -> tuple[int, int]:
    return n - n // PARTS, n // PARTS


def _long_look(bench: MeterBench, name: str, experience: Experience) -> Agreement:
    effort = Effort(window_ms=1000 * LONG_S, settle_ms=1000 * SETTLE_S)
    load = bench.session.load_of(bench.launches[name])
    seen = observe(load, bench.meter, effort=effort, experience=experience)
    return agreement(name, seen.readings, experience)


def agreement(kernel: str, readings: Sequence[Reading], experience: Experience) -> Agreement:
    """Compare the ways to read a load of some seconds.

    Args:
        kernel: For people.
        readings: From the start of the load on.
        experience: The counter's beat, if it has one.
    """
    begin_s = readings[0].time_s + SETTLE_S
    settled = [one for one in readings if one.time_s >= begin_s]
    first_s, last_s = settled[0].time_s + SHORT_S, settled[-1].time_s - SHORT_S
    naive_all = [
        _by_clock(first, last)
        for first in settled
        if first.time_s <= first_s
        for last in settled
        if last.time_s >= last_s
    ]
    naive = float(np.mean(naive_all))
    aligned = np.array(list(_aligned(settled, experience)))
    cuts = [settled[0]]
    for one in settled:
        if one.time_s - cuts[-1].time_s >= SHORT_S:
            cuts.append(one)
    tenths = [_by_clock(first, last) for first, last in itertools.pairwise(cuts)]
    away = aligned / naive - 1
    return Agreement(
        kernel=kernel,
        naive_10s_mj=naive,
        naive_10s_scatter=scatter(naive_all),
        aligned_1s_mj=float(aligned.mean()),
        n_aligned=len(aligned),
        mean_difference=float(away.mean()),
        worst_difference=float(away[np.argmax(np.abs(away))]),
        aligned_1s_scatter=scatter(aligned),
        naive_100ms_scatter=scatter(tenths),
    )


def _aligned(readings: Sequence[Reading], experience: Experience) -> Iterator[float]:
    """Energy per launch of consecutive windows of about a second, from step to step."""
    blocks = blocks_of(steps_of(readings), experience)
    start = 0
    for index in range(len(blocks)):
        span_s = sum(block.span_s for block in blocks[start : index + 1])
        if span_s >= 0.98 * WINDOW_S:
            yield _per_launch(blocks[start].first, blocks[index].last, span_s)
            start = index + 1


def _by_clock(first: Reading, last: Reading) -> float:
    return _per_launch(first, last, last.time_s - first.time_s)


def _per_launch(first: Reading | Step, last: Reading | Step, span_s: float) -> float:
    """Millijoules per launch: power over a span times the time per launch in it."""
    power_w = (last.counter_mj - first.counter_mj) / 1000 / span_s
    latency_us = (last.busy_us - first.busy_us) / (last.n_launches - first.n_launches)
    return power_w * latency_us / 1000

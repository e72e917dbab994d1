"""From the visible steps of a counter to the part of them that makes a window.

    counter  .....|.......|.......|.......|.......|.......|
    blocks        |   0   |   1   |   2   |   3   |   4   |
    power           180 W   290 W   301 W   299 W   300 W
                    still rising    ^--- the window ------^

A window is the longest run of blocks up to now that begins when power has stopped
rising or falling: how long that takes depends on what ran before, and is seen, not
guessed. Pure functions of what was read.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from effcompile.measure.statistics import student_t
from effcompile.measure.steps import Reading, Step, steps_of

# Counters that move faster than this are read in blocks of about this length.
SHORTEST_BLOCK_S = 0.05
MIN_BLOCKS = 3
# Two show that power has settled; how far their mean may err, only calibration can say.
MIN_BLOCKS_EXPERIENCED = 2
# Power has settled when a block differs from the mean of those after it by less than this.
SETTLED_SHARE = 0.015
# Degrees of freedom beyond which a run's own experience of scatter counts no more.
MOST_PRIOR_DEGREES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """What calibration learnt of a meter on this device, see ``search.meter_facts``.

    Attributes:
        period_s: Exact time between two steps where the counter keeps a regular beat;
            ``None`` where it does not, and steps count when they are seen.
        jitter_s: Standard deviation of the counter's own steps around its beat.
        period_share: Half width of the 95 % interval of ``period_s``, as a share of it.
        scatter_share: Standard deviation of a block's power under steady load, as a share.
        n_degrees: Degrees of freedom behind ``scatter_share``; 0 if nothing is known.
    """

    period_s: float | None = None
    jitter_s: float = 0.0
    period_share: float = 0.0
    scatter_share: float = 0.0
    n_degrees: int = 0

    @property
    def min_blocks(self) -> int:
        """Blocks of the shortest window."""
        return MIN_BLOCKS_EXPERIENCED if self.n_degrees else MIN_BLOCKS


NO_EXPERIENCE = Experience()


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Steady load between two visible steps.

    Attributes:
        first: The step it begins on.
        last: The step it ends on.
        span_s: Time between them.
        n_steps: Visible steps inside, both ends included.
        power_w: Mean power.
        ci95_w: Half width of the 95 % interval of the energy per launch, scaled to power.
        trend_share: Second half's power over the first half's, minus 1.
    """

    first: Step
    last: Step
    span_s: float
    n_steps: int
    power_w: float
    ci95_w: float
    trend_share: float

    @property
    def latency_us(self) -> float:
        """Time per launch; at least one must have finished inside."""
        n_launches = self.last.n_launches - self.first.n_launches
        return (self.last.busy_us - self.first.busy_us) / n_launches


@dataclass(frozen=True, slots=True)
class _Block:
    first: Step
    last: Step
    span_s: float
    n_steps: int

    @property
    def power_w(self) -> float:
        return (self.last.counter_mj - self.first.counter_mj) / 1000 / self.span_s

    @property
    def latency_us(self) -> float | None:
        """Time per launch; ``None`` if none finished."""
        n_launches = self.last.n_launches - self.first.n_launches
        return (self.last.busy_us - self.first.busy_us) / n_launches if n_launches else None


def span_s(first: Step, last: Step, experience: Experience) -> float:
    """Time from one step to the next.

    A counter with a beat steps near it: a whole number of periods apart, give or take a jitter
    that is its own, because the energy that comes with a late step is that of a longer time. What
    was seen differs from the beat by that and by when it was looked. So the difference counts by
    the share of it that is likely to be the counter's, less where nobody looked for long.
    """
    seen_s = last.time_s - first.time_s
    if experience.period_s is None:
        return seen_s
    beats_s = max(1, round(seen_s / experience.period_s)) * experience.period_s
    own = 2 * experience.jitter_s**2
    looked = (first.blind_s**2 + last.blind_s**2) / 12
    share = own / (own + looked) if own > 0 else 0.0
    return beats_s + share * (seen_s - beats_s)


def blocks_of(steps: Sequence[Step], experience: Experience) -> list[_Block]:
    """Consecutive pieces of at least :data:`SHORTEST_BLOCK_S`, from step to step."""
    blocks: list[_Block] = []
    begin = 0
    for index in range(1, len(steps)):
        long_enough = steps[index].time_s - steps[begin].time_s >= SHORTEST_BLOCK_S
        if long_enough:
            inside = steps[begin : index + 1]
            span = sum(span_s(*pair, experience) for pair in itertools.pairwise(inside))
            blocks.append(_Block(steps[begin], steps[index], span, index - begin))
            begin = index
    return blocks


def steady_window(readings: Sequence[Reading], experience: Experience) -> Window | None:
    """The longest steady run of blocks that ends with the last one; ``None`` before there is one.

    Args:
        readings: In order of time, from the start of the load on.
        experience: What is known of the meter.
    """
    blocks = blocks_of(steps_of(readings), experience)
    for start in range(len(blocks) - experience.min_blocks + 1):
        rest = blocks[start + 1 :]
        later_w = _mean_w(rest)
        share = max(SETTLED_SHARE, 3 * experience.scatter_share, _edge_share(readings, blocks))
        if later_w > 0 and abs(blocks[start].power_w / later_w - 1) <= share:
            return _window(readings, blocks[start:], experience)
    return None


def last_window(readings: Sequence[Reading], experience: Experience) -> Window | None:
    """The later half of all blocks, for a load that never settles; ``None`` if too few."""
    blocks = blocks_of(steps_of(readings), experience)
    later = blocks[-max(MIN_BLOCKS, len(blocks) // 2) :]
    return _window(readings, later, experience) if len(later) >= MIN_BLOCKS else None


def held_window(readings: Sequence[Reading], experience: Experience) -> Window | None:
    """All blocks but the first, in which power has risen; ``None`` if too few.

    For a device whose power controller swings around its limit for as long as the load lasts:
    waiting for rest is in vain, and what the controller does not change is known of every block.
    """
    blocks = blocks_of(steps_of(readings), experience)[1:]
    if len(blocks) < experience.min_blocks:
        return None
    return _window(readings, blocks, experience, is_held=True)


def _mean_w(blocks: Sequence[_Block]) -> float:
    total_s = sum(block.span_s for block in blocks)
    return sum(block.power_w * block.span_s for block in blocks) / total_s


def _edge_share(readings: Sequence[Reading], blocks: Sequence[_Block]) -> float:
    """How far one block may seem off because its steps were seen late, as a share."""
    return _poll_s(readings) / float(np.median([block.span_s for block in blocks]))


def _poll_s(readings: Sequence[Reading]) -> float:
    return float(np.median(np.diff([reading.time_s for reading in readings])))


def _window(
    readings: Sequence[Reading],
    blocks: Sequence[_Block],
    experience: Experience,
    *,
    is_held: bool = False,
) -> Window:
    total_s = sum(block.span_s for block in blocks)
    mean_w = _mean_w(blocks)
    half = len(blocks) // 2
    earlier_w = _mean_w(blocks[:half])
    # A counter that steps back may take away all that the first half had; its verdict says so.
    trend = _mean_w(blocks[half:]) / earlier_w - 1 if earlier_w > 0 else 0.0
    return Window(
        first=blocks[0].first,
        last=blocks[-1].last,
        span_s=total_s,
        n_steps=sum(block.n_steps for block in blocks) + 1,
        power_w=mean_w,
        ci95_w=_ci95_w(
            blocks, mean_w, _poll_s(readings), experience, power_share=0.5 if is_held else 1.0
        ),
        trend_share=trend,
    )


def _ci95_w(
    blocks: Sequence[_Block],
    mean_w: float,
    poll_s: float,
    experience: Experience,
    *,
    power_share: float,
) -> float:
    """Half width of the 95 % interval of the energy per launch, scaled to power.

    Scatter between blocks, pooled with what calibration saw under steady load; and not knowing
    the beat exactly or, where the counter has none, when within one polling interval the
    outer steps fell. That part of the blocks' scatter which such late sightings explain
    cancels in the sum, and is taken out.
    """
    spans = np.array([block.span_s for block in blocks])
    powers = _powers_at_equal_latency(blocks, mean_w, power_share)
    n = len(blocks)
    length_s = float(spans.mean())
    seen = float(np.average((powers - mean_w) ** 2, weights=spans)) * n / (n - 1)
    late = 0.0 if experience.period_s is not None else poll_s**2 / 12
    own = max(0.0, seen - 2 * late * (mean_w / length_s) ** 2)
    n_prior = min(experience.n_degrees, MOST_PRIOR_DEGREES)
    prior = (experience.scatter_share * mean_w) ** 2
    degrees = n - 1 + n_prior
    scatter = (own * (n - 1) + prior * n_prior) / degrees
    edge = 2 * late * (mean_w / (n * length_s)) ** 2
    interval = student_t(degrees) * float(np.sqrt(scatter / n + edge))
    return float(np.hypot(interval, experience.period_share * mean_w))


def _powers_at_equal_latency(
    blocks: Sequence[_Block], mean_w: float, power_share: float
) -> np.ndarray:
    """Power of each block times how much slower than the mean its launches were.

    Under a controller at its limit power counts by half: power and time then change together,
    and ``sqrt(power) * time`` stays, see ``EnergyMeasurement.steady_mj``.
    """
    powers = np.array([block.power_w for block in blocks])
    latencies = [block.latency_us for block in blocks]
    known = np.array([one for one in latencies if one is not None])
    if len(known) < len(blocks) or mean_w <= 0.0:
        return powers
    return np.asarray(
        mean_w * np.maximum(powers / mean_w, 0.0) ** power_share * known / known.mean()
    )

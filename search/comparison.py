"""Who wins an interleaved re-measurement, and whether that is more than noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.final import Criterion, Finalist, Ratio

MIN_FOR_ORDER_STATISTICS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome of a comparison with the default.

    Attributes:
        trial_id: Who wins.
        criterion: The number that decided.
        is_tie: True if nobody beat the default by more than the interval.
    """

    trial_id: int
    criterion: Criterion
    is_tie: bool


def ratio_of(rounds: Sequence[float]) -> Ratio | None:
    """Median of interleaved ratios with a 95 % interval.

    From nine rounds on it is the interval of the median by order statistics, which a few
    disturbed rounds cannot widen. With fewer, Student's of the geometric mean, widened to
    hold the median; one round alone shows nothing and gives an interval without bounds.

    Args:
        rounds: One ratio per round, positive.
    """
    if not rounds:
        return None
    median = float(np.median(rounds))
    if len(rounds) == 1:
        return Ratio(median=median, low=0.0, high=float("inf"))
    if len(rounds) >= MIN_FOR_ORDER_STATISTICS:
        low, high = _median_bounds(sorted(rounds))
        return Ratio(median=median, low=low, high=high)
    from scipy.special import stdtrit

    logs = np.log(np.asarray(rounds, dtype=np.float64))
    error = float(logs.std(ddof=1) / np.sqrt(len(logs)))
    half = float(stdtrit(len(logs) - 1, 0.975)) * error
    middle = float(logs.mean())
    return Ratio(
        median=median,
        low=min(median, float(np.exp(middle - half))),
        high=max(median, float(np.exp(middle + half))),
    )


def _median_bounds(ordered: Sequence[float]) -> tuple[float, float]:
    """The order statistics between which the true median lies with at least 95 %."""
    from scipy.special import bdtr  # scipy.stats takes a second to import

    below = bdtr(np.arange(len(ordered) + 1), len(ordered), 0.5)
    rank = int(np.searchsorted(below, 0.025))
    return ordered[rank - 1], ordered[-rank]


def decide(default: Finalist, others: Sequence[Finalist], *, max_slowdown: float) -> Decision:
    """The best finalist that beats the default by more than the interval, else the default.

    Only finalists within the latency limit may win. They are compared by energy where it
    was measured, and by latency where energy shows no difference or is unmeasured. Latency is
    that under lasting load where energy was measured, else that of short bursts.

    Args:
        default: The default schedule, measured in the same rounds.
        others: Any order; failed ones cannot win.
        max_slowdown: Share of the least latency that may be given up.
    """
    if default.measurement is None:
        return _without_default(default, others)
    ratios = {one.trial_id: one.judged_ratio for one in others if one.judged_ratio is not None}
    best = min([1.0, *(ratio.median for ratio in ratios.values())])
    limit = best * (1.0 + max_slowdown)
    allowed = [
        one for one in others if one.trial_id in ratios and ratios[one.trial_id].median <= limit
    ]
    has_energy = any(one.energy_ratio is not None for one in allowed)
    criterion: Criterion = "energy" if has_energy else "latency"
    for one in sorted(allowed, key=lambda one: _order(one, criterion)):
        if _beats_default(one, criterion, default_is_allowed=limit >= 1.0):
            return Decision(trial_id=one.trial_id, criterion=criterion, is_tie=False)
    return Decision(trial_id=default.trial_id, criterion=criterion, is_tie=True)


def _order(one: Finalist, criterion: Criterion) -> tuple[bool, float, float, int]:
    latency = float("inf") if one.judged_ratio is None else one.judged_ratio.median
    if criterion == "latency":
        return False, latency, 0.0, one.trial_id
    energy = None if one.energy_ratio is None else one.energy_ratio.median
    return energy is None, energy or 0.0, latency, one.trial_id


def _beats_default(one: Finalist, criterion: Criterion, *, default_is_allowed: bool) -> bool:
    is_faster = one.judged_ratio is not None and one.judged_ratio.high < 1.0
    if not default_is_allowed or criterion == "latency" or one.energy_ratio is None:
        return is_faster
    if one.energy_ratio.is_tie:
        return is_faster
    return one.energy_ratio.high < 1.0


def _without_default(default: Finalist, others: Sequence[Finalist]) -> Decision:
    """The default failed this time: the fastest that ran, else the default after all."""
    ran = [
        (one.measurement.latency.latency_us, one.trial_id)
        for one in others
        if one.measurement is not None and one.measurement.latency.verdict.usable
    ]
    winner = min(ran)[1] if ran else default.trial_id
    return Decision(trial_id=winner, criterion="latency", is_tie=not ran)

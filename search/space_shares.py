"""How a round is divided between the design spaces of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from search.history import TaskHistory

SHARPNESS = 4.0
"""A space whose best is twice as slow gets ``2 ** -SHARPNESS`` of the other's share."""

PREFERENCE = 2.0
"""How much more a space gets than the next one where nothing is known of either."""

US_PER_CYCLE = 1 / 1800
"""Of estimates, before a space that has one was measured."""

LEAST_SHARE = 0.1
"""No space is given up: models and luck may still change. Of few trials that is none."""


def split_round(
    n: int, names: Sequence[str], history: TaskHistory, cycles: Mapping[str, float] | None = None
) -> dict[str, int]:
    """Trials per space: by what its best takes, measured or estimated, else by preference.

    Shares are of all trials of the task, so that small ones add up over rounds.

    Args:
        n: Trials of the round.
        names: Spaces, the preferred first; it gets what rounding leaves over.
        history: The task's trials.
        cycles: Estimates of the best candidate, of spaces that can tell.

    Returns:
        A number per name; they add up to ``n``.
    """
    weights = _weights(names, history, cycles or {})
    total = sum(weights.values())
    shares = {name: max(LEAST_SHARE, weight / total) for name, weight in weights.items()}
    total = sum(shares.values())
    spaces = [trial.candidate.space for trial in history.trials]
    had = {name: spaces.count(name) for name in names}
    due = {name: shares[name] / total * (sum(had.values()) + n) - had[name] for name in names}
    return _whole(n, due, sorted(names, key=lambda name: -shares[name]))


def _whole(n: int, due: Mapping[str, float], by_share: Sequence[str]) -> dict[str, int]:
    """Whole numbers that add up to ``n``: what is due, what is left over in order of shares."""
    counts = dict.fromkeys(due, 0)
    for name in by_share:
        counts[name] = min(max(0, int(due[name])), n - sum(counts.values()))
    for i in range(n - sum(counts.values())):
        counts[by_share[i % len(by_share)]] += 1
    return counts


def _weights(
    names: Sequence[str], history: TaskHistory, cycles: Mapping[str, float]
) -> dict[str, float]:
    expected = _expected_us(names, history, cycles)
    known = {name: value for name, value in expected.items() if value is not None}
    if len(known) < len(names) and not cycles:
        return {name: PREFERENCE**-rank for rank, name in enumerate(names)}
    least = min(known.values())
    return {name: (least / known[name]) ** SHARPNESS if name in known else 0.0 for name in names}


def _expected_us(
    names: Sequence[str], history: TaskHistory, cycles: Mapping[str, float]
) -> dict[str, float | None]:
    """Of each space's best: measured, else estimated; else the default's, where others are."""
    best = {name: _best_latency_us(name, history) for name in names}
    known = {name: value for name, value in best.items() if value is not None}
    factors = [value / cycles[name] for name, value in known.items() if name in cycles]
    us_per_cycle = median(factors) if factors else US_PER_CYCLE
    estimated = {name: us_per_cycle * value for name, value in cycles.items()}
    trial = history.default_trial() if cycles else None
    default_us = trial.latency.latency_us if trial and trial.latency else None
    return {name: known.get(name, estimated.get(name, default_us)) for name in names}


def _best_latency_us(name: str, history: TaskHistory) -> float | None:
    return min(
        (
            trial.latency.latency_us
            for trial in history.ok_trials()
            if trial.candidate.space == name and trial.latency is not None
        ),
        default=None,
    )

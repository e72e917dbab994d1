"""How a round is divided between the design spaces of a task."""

from __future__ import annotations

from collections.abc import Sequence

from search.history import TaskHistory

SHARPNESS = 4.0
"""A space whose best is twice as slow gets ``2 ** -SHARPNESS`` of the other's share."""

PREFERENCE = 2.0
"""How much more a space gets than the next one before each has a latency."""

LEAST_SHARE = 0.1
"""No space is given up: models and luck may still change."""


def split_round(n: int, names: Sequence[str], history: TaskHistory) -> dict[str, int]:
    """Trials per space: by preference before each has a latency, then by the best one of each.

    Args:
        n: Trials of the round.
        names: Spaces, the preferred first; it gets what rounding leaves over.
        history: The task's trials.

    Returns:
        A number per name; they add up to ``n``.
    """
    best = {name: _best_latency_us(name, history) for name in names}
    known = [value for value in best.values() if value is not None]
    if len(known) < len(names):
        weights = {name: PREFERENCE**-rank for rank, name in enumerate(names)}
    else:
        weights = {name: (min(known) / (best[name] or 1.0)) ** SHARPNESS for name in names}
    total = sum(weights.values())
    shares = {name: max(LEAST_SHARE, weight / total) for name, weight in weights.items()}
    total = sum(shares.values())
    least = 1 if n >= 2 * len(names) else 0
    counts = {name: max(least, int(n * share / total)) for name, share in shares.items()}
    by_share = sorted(names, key=lambda name: -shares[name])
    for i in range(n - sum(counts.values())):
        counts[by_share[i % len(by_share)]] += 1
    return counts


def _best_latency_us(name: str, history: TaskHistory) -> float | None:
    return min(
        (
            trial.latency.latency_us
            for trial in history.ok_trials()
            if trial.candidate.space == name and trial.latency is not None
        ),
        default=None,
    )

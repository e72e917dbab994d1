"""Who of a search's finalists wins on the device, as a run's own finals would decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from effcompile.bench.winner_pairs import WinnerPair
from schedules.candidate import Candidate
from search.comparison import decide
from search.finalists import finalist_of
from search.ports import FinalMeasurement
from search.trial import Failure

Found = Mapping[str, FinalMeasurement | Failure]
"""What came of candidates that were measured in turn, by id."""


def chosen_of(pair: WinnerPair, found: Found, *, max_slowdown: float) -> Candidate:
    """The finalist of least energy that beats the fastest, which stays where none does.

    Args:
        pair: What the search left.
        found: Of the fastest and of all finalists, from the same rounds.
        max_slowdown: Share of the least latency that may be given up.
    """
    candidates = [pair.latency_winner, *pair.finalists]
    reference = found[pair.latency_winner.candidate_id]
    if isinstance(reference, Failure):
        return pair.latency_winner
    fastest, *others = (
        finalist_of(i, _over(found[one.candidate_id], reference))
        for i, one in enumerate(candidates)
    )
    return candidates[decide(fastest, others, max_slowdown=max_slowdown).trial_id]


def _over(
    own: FinalMeasurement | Failure, reference: FinalMeasurement
) -> FinalMeasurement | Failure:
    """A measurement whose ratios are over those of another, not over the first build."""
    if isinstance(own, Failure):
        return own
    latencies = ratios_over(own.latency_ratios, reference.latency_ratios)
    if not reference.energy.verdict.usable:
        return replace(own, latency_ratios=latencies, energy_ratios=(), sustained_ratios=())
    return replace(
        own,
        latency_ratios=latencies,
        energy_ratios=ratios_over(own.energy_ratios, reference.energy_ratios),
        sustained_ratios=ratios_over(own.sustained_ratios, reference.sustained_ratios),
    )


def ratios_over(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, ...]:
    """Ours over theirs, round by round; empty unless all rounds are there."""
    if len(ours) != len(theirs):
        return ()
    return tuple(a / b for a, b in zip(ours, theirs, strict=True))

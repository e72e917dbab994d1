"""Who of a search's finalists wins on the device, as a run's own finals would decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from effcompile.bench.winner_pairs import WinnerPair
from schedules.candidate import Candidate
from search.comparison import decide, ratio_of
from search.final import Finalist, Ratio
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
    fastest, *others = (
        _finalist(i, found[one.candidate_id], found[pair.latency_winner.candidate_id])
        for i, one in enumerate(candidates)
    )
    if fastest.measurement is None:
        return pair.latency_winner
    return candidates[decide(fastest, others, max_slowdown=max_slowdown).trial_id]


def _finalist(
    index: int, own: FinalMeasurement | Failure, fastest: FinalMeasurement | Failure
) -> Finalist:
    if isinstance(own, Failure) or isinstance(fastest, Failure):
        failure = own if isinstance(own, Failure) else None
        return Finalist(trial_id=index, failure=failure)
    usable = own.energy.verdict.usable and fastest.energy.verdict.usable
    return Finalist(
        trial_id=index,
        measurement=own,
        latency_ratio=ratio_between(own.latency_ratios, fastest.latency_ratios),
        energy_ratio=ratio_between(own.energy_ratios, fastest.energy_ratios) if usable else None,
        sustained_ratio=(
            ratio_between(own.sustained_ratios, fastest.sustained_ratios) if usable else None
        ),
    )


def ratio_between(ours: Sequence[float], theirs: Sequence[float]) -> Ratio | None:
    """Ours over theirs, both over the same first build; rounds must all be there."""
    if len(ours) != len(theirs):
        return None
    return ratio_of([a / b for a, b in zip(ours, theirs, strict=True)])

"""Random candidates: the strategy that learns nothing, and every strategy's first step."""

from __future__ import annotations

import numpy as np

from schedules.candidate import Candidate
from schedules.space import DesignSpace
from search.history import TaskHistory
from search.stored import Proposal
from search.strategy import Ranker

FACTORS = (1, 2, 4, 8)
"""Of what is wanted, in draws that follow each other until enough is new."""


class RandomSearch:
    """Draws until enough candidates are new, or until drawing finds hardly any."""

    def propose(
        self,
        history: TaskHistory,
        space: DesignSpace,
        n: int,
        *,
        ranker: Ranker,
        rng: np.random.Generator,
    ) -> list[Proposal]:
        """See :class:`search.strategy.Strategy`; the models are not asked."""
        del ranker
        drawn = fresh_samples(history, space, n, rng)
        return [Proposal(candidate=candidate, origin="sample") for candidate in drawn]


def fresh_samples(
    history: TaskHistory, space: DesignSpace, n: int, rng: np.random.Generator
) -> list[Candidate]:
    """At most ``n`` distinct random candidates that were never proposed for the task.

    A space that gives fewer than it is asked for has no others, and is not asked again.
    """
    found: dict[str, Candidate] = {}
    for factor in FACTORS:
        if len(found) >= n:
            break
        # Spaces that draw the promising first return tried points before any others: the last draw
        # goes beyond all of them.
        n_asked = factor * n + (history.n_tried if factor == FACTORS[-1] else 0)
        drawn = space.sample(n_asked, rng)
        for candidate in drawn:
            if not history.was_tried(candidate.candidate_id):
                found.setdefault(candidate.candidate_id, candidate)
        if len(drawn) < n_asked:
            break
    return list(found.values())[:n]

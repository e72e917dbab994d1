"""Random candidates: the strategy that learns nothing, and every strategy's first step."""

from __future__ import annotations

import numpy as np

from schedules.candidate import Candidate
from schedules.space import DesignSpace
from search.history import TaskHistory
from search.stored import Proposal
from search.strategy import Ranker

MAX_DRAWS = 4


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
    """At most ``n`` distinct random candidates that were never proposed for the task."""
    found: dict[str, Candidate] = {}
    n_asked = n
    for _ in range(MAX_DRAWS):
        if len(found) >= n:
            break
        for candidate in space.sample(n_asked, rng):
            if not history.was_tried(candidate.candidate_id):
                found.setdefault(candidate.candidate_id, candidate)
        # A small space returns mostly known points: ask for more of it the next time.
        n_asked = 2 * n_asked
    return list(found.values())[:n]

"""What a search strategy is: a pure function of history and generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from schedules.candidate import Candidate
from schedules.space import DesignSpace
from search.history import TaskHistory
from search.stored import Proposal


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranking:
    """What the models say of some candidates of one task.

    Attributes:
        log_slowdown: Expected ``log2(latency / best latency of the task)``, shape (n,).
        log_spread: Standard deviation of its error, same shape; ``None`` if unknown.
        energy_mj: Expected energy, same shape; ``None`` before any energy was learnt.
        energy_spread_mj: Standard deviation of its error, likewise.
    """

    log_slowdown: np.ndarray
    log_spread: np.ndarray | None = None
    energy_mj: np.ndarray | None = None
    energy_spread_mj: np.ndarray | None = None


class Ranker(Protocol):
    """The cost models, as one task's strategy sees them."""

    def rank(self, space: DesignSpace, candidates: Sequence[Candidate]) -> Ranking | None:
        """Predictions in the given order; ``None`` before the models know this space."""


class Strategy(Protocol):
    """Proposes candidates of one task.

    Equal history, spaces, predictions and generator state give equal proposals: that is
    how a killed run continues as if it had not been killed.
    """

    def propose(
        self,
        history: TaskHistory,
        space: DesignSpace,
        n: int,
        *,
        ranker: Ranker,
        rng: np.random.Generator,
    ) -> list[Proposal]:
        """At most ``n`` distinct candidates of a space that were never proposed for the task.

        Fewer only if the space seems to hold no more.
        """

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
        power_w: Expected power; ``None`` before any power was learnt.
    """

    log_slowdown: np.ndarray
    power_w: np.ndarray | None

    def energy(self) -> np.ndarray | None:
        """Expected energy in units of one watt for the task's best latency, shape (n,)."""
        return None if self.power_w is None else self.power_w * np.exp2(self.log_slowdown)


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

"""The design-space protocol: every way to compute a workload on a target.

Two kinds stand behind it: own spaces (knobs, constraints, and a function from
knobs to a program) and TVM's space (traces of schedule instructions). Both are
deterministic: the same generator state gives the same candidates, whatever the
number of threads used inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from schedules.candidate import Candidate


class DesignSpace(Protocol):
    """Knobs or traces for one workload on one target.

    ``realise`` must accept every candidate that ``default``, ``sample`` and ``mutate``
    return, in any process, and raise :class:`~schedules.errors.IllegalCandidate`
    for anything else.
    """

    @property
    def name(self) -> str:
        """Name stored in candidates, for example ``tvm``."""

    @property
    def least_cycles(self) -> float | None:
        """About how long the best candidate takes, ``None`` if only trials tell."""

    def sample(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        """At most ``n`` distinct legal candidates drawn at random; fewer if no more are found."""

    def mutate(
        self, parents: Sequence[Candidate], rng: np.random.Generator
    ) -> list[Candidate | None]:
        """One changed copy per parent, ``None`` where no legal change was found."""

    def features(self, candidates: Sequence[Candidate]) -> np.ndarray:
        """Numbers known before building, float32, shape (n_candidates, n_features)."""

    def realise(self, candidate: Candidate) -> Any:
        """The scheduled program: a ``tvm.IRModule`` with one function named ``main``.

        Raises:
            IllegalCandidate: The decisions do not fit this space.
        """

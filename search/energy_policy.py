"""Which fast candidates get an energy measurement in a round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from search.config import SearchConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyCandidate:
    """A fast candidate without an energy measurement.

    Attributes:
        trial_id: Which trial.
        latency_us: Its measured latency.
        energy_mj: Predicted energy.
        spread_mj: Expected error of the prediction, standard deviation.
    """

    trial_id: int
    latency_us: float
    energy_mj: float
    spread_mj: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelError:
    """A prediction beside what was then measured, from an earlier round.

    Attributes:
        round_index: Round of the measurement.
        trial_id: Which trial.
        predicted_mj: Made before training on the measurement.
        measured_mj: What came.
        is_control: Picked at random, not for its prediction.
    """

    round_index: int
    trial_id: int
    predicted_mj: float
    measured_mj: float
    is_control: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyState:
    """What a policy may look at.

    Attributes:
        candidates: Fast candidates of the task that have no energy, by trial id.
        incumbent_mj: Least measured energy within the latency limit, if any.
        incumbent_ci95_mj: Half width of its interval, if known.
        errors: Predictions of earlier rounds of the task beside measurements.
    """

    candidates: Sequence[EnergyCandidate]
    incumbent_mj: float | None = None
    incumbent_ci95_mj: float | None = None
    errors: Sequence[ModelError] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyPick:
    """A trial whose energy is to be measured; ``is_control`` if picked at random."""

    trial_id: int
    is_control: bool


class EnergyPolicy(Protocol):
    """Chooses energy measurements: a pure function of state and generator."""

    def pick(self, state: EnergyState, rng: np.random.Generator) -> list[EnergyPick]:
        """Distinct trials of ``state.candidates``, the most wanted first."""


class TopPredicted:
    """The predicted best, and a few at random.

    The random ones are the only unbiased look at the model's error: an error computed
    on the best-ranked alone is biased by the ranking.
    """

    def __init__(self, config: SearchConfig) -> None:
        self.config = config

    def pick(self, state: EnergyState, rng: np.random.Generator) -> list[EnergyPick]:
        """See :class:`EnergyPolicy`."""
        ranked = sorted(state.candidates, key=lambda one: (one.energy_mj, one.trial_id))
        top, rest = ranked[: self.config.energy_top], ranked[self.config.energy_top :]
        n_random = min(self.config.energy_random, len(rest))
        drawn = sorted(int(i) for i in rng.choice(len(rest), size=n_random, replace=False))
        return [EnergyPick(trial_id=one.trial_id, is_control=False) for one in top] + [
            EnergyPick(trial_id=rest[i].trial_id, is_control=True) for i in drawn
        ]

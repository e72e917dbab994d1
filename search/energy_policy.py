"""Which fast candidates get an energy measurement in a round: what a policy sees and says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from search.config import SearchConfig

CONTROL_SHARE = 0.1
"""Random picks per measurement: enough to see the models' errors without bias."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyCandidate:
    """A fast candidate without an energy measurement.

    Attributes:
        trial_id: Which trial.
        latency_us: Its measured latency.
        energy_mj: Predicted energy; before anything is known, any number that orders by latency.
        spread_mj: Expected error of the prediction, standard deviation.
        is_new: Found since energies were last chosen for the task.
    """

    trial_id: int
    latency_us: float
    energy_mj: float
    spread_mj: float
    is_new: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelError:
    """A prediction beside what was then measured, from an earlier round.

    Attributes:
        round_index: Round of the measurement.
        trial_id: Which trial.
        predicted_mj: Made before training on the measurement.
        measured_mj: What came.
        is_control: Picked at random, not for its prediction.
        spread_mj: Error that the prediction stated, ``None`` if it stated none.
        ci95_mj: Half width of the measurement's interval, ``None`` if unknown.
    """

    round_index: int
    trial_id: int
    predicted_mj: float
    measured_mj: float
    is_control: bool
    spread_mj: float | None = None
    ci95_mj: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyState:
    """What a policy may look at.

    Attributes:
        candidates: Fast candidates of the task that have no energy, by trial id.
        incumbent_mj: Least measured energy within the latency limit, if any.
        incumbent_ci95_mj: Half width of its interval, if known.
        errors: Predictions of earlier rounds of the task beside measurements.
        limit_us: Latency beyond which a candidate cannot be chosen, ``None`` if unknown.
        n_measured: Candidates of the task with a usable energy, the default not counted.
    """

    candidates: Sequence[EnergyCandidate]
    incumbent_mj: float | None = None
    incumbent_ci95_mj: float | None = None
    errors: Sequence[ModelError] = ()
    limit_us: float | None = None
    n_measured: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyPick:
    """A trial whose energy is to be measured; ``is_control`` if picked at random."""

    trial_id: int
    is_control: bool


class EnergyPolicy(Protocol):
    """Chooses energy measurements: a pure function of state and generator."""

    def pick(self, state: EnergyState, rng: np.random.Generator) -> list[EnergyPick]:
        """Distinct trials of ``state.candidates``, the most wanted first."""


def by_prediction(state: EnergyState) -> list[EnergyCandidate]:
    """Candidates from the least predicted energy to the most."""
    return sorted(state.candidates, key=lambda one: (one.energy_mj, one.trial_id))


def with_controls(
    wanted: Sequence[EnergyCandidate],
    state: EnergyState,
    n_random: int,
    rng: np.random.Generator,
) -> list[EnergyPick]:
    """The wanted ones, and a few of the others at random.

    The random ones are the only unbiased look at the model's error: an error computed
    on the best-ranked alone is biased by the ranking.
    """
    taken = {one.trial_id for one in wanted}
    rest = [one for one in by_prediction(state) if one.trial_id not in taken]
    drawn = sorted(
        int(i) for i in rng.choice(len(rest), size=min(n_random, len(rest)), replace=False)
    )
    return [EnergyPick(trial_id=one.trial_id, is_control=False) for one in wanted] + [
        EnergyPick(trial_id=rest[i].trial_id, is_control=True) for i in drawn
    ]


def due_controls(state: EnergyState, config: SearchConfig) -> int:
    """One where the random picks so far are less than a tenth of what was measured."""
    n_before = sum(one.is_control for one in state.errors)
    is_due = n_before + 1 <= CONTROL_SHARE * state.n_measured
    return min(1, config.energy_random) if is_due else 0

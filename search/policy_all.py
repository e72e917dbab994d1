"""Energy of every fast candidate: the share of measured ones is 1 throughout."""

from __future__ import annotations

import numpy as np

from search.energy_policy import EnergyPick, EnergyState, by_prediction


class MeasureAll:
    """What the other policies are compared with; asks no model."""

    def pick(self, state: EnergyState, rng: np.random.Generator) -> list[EnergyPick]:
        """See :class:`search.energy_policy.EnergyPolicy`; nothing is random."""
        del rng
        return [EnergyPick(trial_id=one.trial_id, is_control=False) for one in by_prediction(state)]

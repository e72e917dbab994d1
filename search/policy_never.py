"""No energy measurement after a warm-up: the share of measured ones drops to 0."""

from __future__ import annotations

import numpy as np

from search.config import SearchConfig
from search.energy_policy import EnergyPick, EnergyState, by_prediction


class NeverAfterWarmUp:
    """Measures until the models have something to learn from, then trusts them.

    Energies are then known by prediction alone, until the finalists are measured.
    """

    def __init__(self, config: SearchConfig) -> None:
        self.config = config

    def pick(self, state: EnergyState, rng: np.random.Generator) -> list[EnergyPick]:
        """See :class:`search.energy_policy.EnergyPolicy`; nothing is random."""
        del rng
        n_left = max(0, self.config.energy_warmup - state.n_measured)
        return [
            EnergyPick(trial_id=one.trial_id, is_control=False)
            for one in by_prediction(state)[:n_left]
        ]

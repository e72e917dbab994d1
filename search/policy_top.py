"""Energy of the predicted best of each round."""

from __future__ import annotations

import numpy as np

from search.config import SearchConfig
from search.energy_policy import EnergyPick, EnergyState, by_prediction, with_controls


class TopPredicted:
    """A fixed number of the predicted best, and a few at random."""

    def __init__(self, config: SearchConfig) -> None:
        self.config = config

    def pick(self, state: EnergyState, rng: np.random.Generator) -> list[EnergyPick]:
        """See :class:`search.energy_policy.EnergyPolicy`."""
        wanted = by_prediction(state)[: self.config.energy_top]
        return with_controls(wanted, state, self.config.energy_random, rng)

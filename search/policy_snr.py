"""A share of the fast candidates that falls while the predictions are good."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from cost_models.updating import RoundErrors, UpdatingRule, measured_share
from search.config import SearchConfig
from search.energy_policy import EnergyPick, EnergyState, ModelError, by_prediction, with_controls


class SharedBySnr:
    """Dynamic updating: the rule of :mod:`cost_models.updating` sets the share.

    The share counts candidates found since the last choice; the places go to the predicted
    best of all that are unmeasured, because an old one may look better to a newer model.
    """

    def __init__(self, config: SearchConfig) -> None:
        self.config = config
        self.rule = UpdatingRule(form=config.energy_snr)

    def pick(self, state: EnergyState, rng: np.random.Generator) -> list[EnergyPick]:
        """See :class:`search.energy_policy.EnergyPolicy`."""
        share = measured_share(errors_by_round(state.errors), self.rule)
        n_new = sum(one.is_new for one in state.candidates)
        wanted = by_prediction(state)[: math.ceil(share * n_new)]
        return with_controls(wanted, state, self.config.energy_random, rng)


def errors_by_round(errors: Sequence[ModelError]) -> list[RoundErrors]:
    """A task's errors in the form the updating rule takes."""
    rounds = []
    for _, group in itertools.groupby(errors, key=lambda one: one.round_index):
        ones = list(group)
        rounds.append(
            RoundErrors(
                measured=np.array([one.measured_mj for one in ones]),
                predicted=np.array([one.predicted_mj for one in ones]),
                noise=np.array(
                    [math.nan if one.ci95_mj is None else one.ci95_mj / 1.96 for one in ones]
                ),
                is_control=np.array([one.is_control for one in ones]),
            )
        )
    return rounds

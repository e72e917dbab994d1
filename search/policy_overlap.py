"""Energy of the candidates that may still beat the best, judged one by one."""

from __future__ import annotations

import numpy as np

from cost_models.calibration import UNCALIBRATED, conformal_factor
from search.config import SearchConfig
from search.energy_policy import (
    EnergyCandidate,
    EnergyPick,
    EnergyState,
    by_prediction,
    due_controls,
    with_controls,
)

COVERAGE = 0.9

MOST_PER_ROUND = 1
"""The models learn from each before they are asked about the next."""


class OverlapsIncumbent:
    """Measures where the predicted interval reaches below the upper end of the incumbent's.

    Only candidates within the latency limit can win, so only they are asked, a few at a time.
    The share of measured candidates is nobody's setting: it follows from how sure the models
    are.
    """

    def __init__(self, config: SearchConfig) -> None:
        self.config = config

    def pick(self, state: EnergyState, rng: np.random.Generator) -> list[EnergyPick]:
        """See :class:`search.energy_policy.EnergyPolicy`."""
        ranked = by_prediction(state)
        n_warmup = self.config.energy_warmup - state.n_measured
        if n_warmup > 0 or state.incumbent_mj is None:
            wanted = ranked[: max(1, n_warmup)]
        else:
            able = [one for one in ranked if _is_allowed(one, state)]
            factor = calibrated_factor(state)
            limit_mj = state.incumbent_mj + (state.incumbent_ci95_mj or 0.0)
            wanted = [one for one in able if one.energy_mj - factor * one.spread_mj < limit_mj]
            wanted = wanted[: min(MOST_PER_ROUND, self.config.energy_top)]
        return with_controls(wanted, state, due_controls(state, self.config), rng)


def calibrated_factor(state: EnergyState) -> float:
    """Factor on predicted spreads that covers 90 % of what is measured afterwards."""
    known = [one for one in state.errors if one.spread_mj]
    if not known:
        return UNCALIBRATED
    return conformal_factor(
        np.array([one.measured_mj for one in known]),
        np.array([one.predicted_mj for one in known]),
        np.array([one.spread_mj for one in known], dtype=np.float64),
        coverage=COVERAGE,
    )


def _is_allowed(one: EnergyCandidate, state: EnergyState) -> bool:
    return state.limit_us is None or one.latency_us <= state.limit_us

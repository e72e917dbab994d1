"""Energy of candidates for which a window may pay, judged by the gain that it can bring."""

from __future__ import annotations

import math

import numpy as np

from search.config import SearchConfig
from search.energy_policy import (
    EnergyCandidate,
    EnergyPick,
    EnergyState,
    by_prediction,
    due_controls,
    with_controls,
)

PRIOR_ERRORS = 1.0
"""Errors' worth of trust in the spreads that predictions state."""


class WorthTheWindow:
    """One window a round, while more candidates promise a gain than the finals have places for.

    The finals measure the predicted best anyway, and better: a window before them can change who
    wins only if there are more who may. What a candidate promises is the expected value of what
    it saves against the incumbent; less than the incumbent's own interval would be called a tie,
    and is not looked for. A candidate that was just found waits a round: while the search still
    finds faster ones, most leave the latency limit by themselves.

    Predictions that state no error are not judged: then ``energy_warmup`` candidates are measured.
    """

    def __init__(self, config: SearchConfig) -> None:
        self.config = config

    def pick(self, state: EnergyState, rng: np.random.Generator) -> list[EnergyPick]:
        """See :class:`search.energy_policy.EnergyPolicy`."""
        ranked = by_prediction(state)
        states_errors = any(one.spread_mj > 0.0 for one in ranked)
        n_first = 1 if states_errors else self.config.energy_warmup - state.n_measured
        if state.incumbent_mj is None:
            wanted = ranked[: max(1, n_first)]
        elif not states_errors and n_first > 0:
            wanted = ranked[:n_first]
        else:
            wanted = self._paying(ranked, state, state.incumbent_mj)
        return with_controls(wanted, state, due_controls(state, self.config), rng)

    def _paying(
        self, ranked: list[EnergyCandidate], state: EnergyState, incumbent_mj: float
    ) -> list[EnergyCandidate]:
        """The most promising one, if the finals could not take all that promise enough."""
        factor = spread_factor(state)
        gains = {
            one.trial_id: expected_gain(incumbent_mj, one.energy_mj, factor * one.spread_mj)
            for one in ranked
            if not one.is_new and (state.limit_us is None or one.latency_us <= state.limit_us)
        }
        tie_mj = state.incumbent_ci95_mj or 0.0
        promising = [one for one in ranked if gains.get(one.trial_id, 0.0) > tie_mj]
        if len(promising) <= self.config.n_finalists // 2:
            return []
        return [max(promising, key=lambda one: (gains[one.trial_id], -one.trial_id))]


def expected_gain(incumbent_mj: float, mean_mj: float, spread_mj: float) -> float:
    """Expected value of ``max(0, incumbent - energy)`` for a normally distributed energy."""
    ahead_mj = incumbent_mj - mean_mj
    if spread_mj <= 0.0:
        return max(0.0, ahead_mj)
    z = ahead_mj / spread_mj
    density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return ahead_mj * 0.5 * math.erfc(-z / math.sqrt(2.0)) + spread_mj * density


def spread_factor(state: EnergyState) -> float:
    """How far errors went beyond the spreads stated with them, as a factor on later ones.

    The root mean square over the task's errors so far and one more that is just as stated.
    """
    scores = [
        ((one.measured_mj - one.predicted_mj) / one.spread_mj) ** 2
        for one in state.errors
        if one.spread_mj
    ]
    return math.sqrt((PRIOR_ERRORS + sum(scores)) / (PRIOR_ERRORS + len(scores)))

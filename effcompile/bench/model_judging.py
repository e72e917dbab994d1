"""Predictions beside measured energies: calibrated intervals, and what noise leaves to reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cost_models.calibration import UNCALIBRATED, grouped_conformal_factor
from cost_models.quality import Judged
from search.policy_overlap import COVERAGE

N_NOISES = 400


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """Predictions of one workload, shape (n,) each.

    Attributes:
        measured: Energies, millijoules.
        predicted: Means.
        spread: Standard deviations stated with them.
    """

    measured: np.ndarray
    predicted: np.ndarray
    spread: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """Errors over stated spreads; empty where none was stated."""
        if not (self.spread > 0.0).all():
            return np.empty(0)
        return np.asarray(np.abs(self.measured - self.predicted) / self.spread)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachable:
    """What a model could reach that knew every energy exactly, given the measuring noise.

    Attributes:
        spread_percent: Energies, from the least to the most, as a share of the least.
        correlation: With the measured energies.
        regret: Mean top-1 regret: the least of some noisy numbers is too low.
    """

    spread_percent: float
    correlation: float
    regret: float


def judged(
    workload: str, answers: Mapping[str, Sequence[Answers]], *, is_new: bool
) -> list[Judged]:
    """A workload's answers, with intervals calibrated on the errors on the other workloads.

    Args:
        workload: Its name.
        answers: By workload, one per draw of what was known.
        is_new: Nothing of the workload is known, so its rows err together: whole workloads
            are exchangeable, not rows.
    """
    others = [one for name, one in answers.items() if name != workload]
    scores = [np.concatenate([draw.scores for draw in one]) for one in others if one]
    scores = [one for one in scores if len(one)]
    if not scores:
        factor = UNCALIBRATED
    elif is_new:
        factor = grouped_conformal_factor(scores, coverage=COVERAGE)
    else:
        factor = float(np.quantile(np.concatenate(scores), COVERAGE))
    return [_covered(one, factor) for one in answers[workload]]


def _covered(one: Answers, factor: float) -> Judged:
    is_inside = np.abs(one.measured - one.predicted) <= factor * one.spread
    return Judged(
        measured=one.measured,
        predicted=one.predicted,
        is_covered=np.where(one.spread > 0.0, is_inside, np.nan),
    )


def reachable(energies: np.ndarray, noise: np.ndarray) -> Reachable:
    """From measured energies and the standard deviations of their errors, shape (n,) each."""
    signal, error = float(energies.var()), float(np.mean(noise**2))
    ceiling = float(np.sqrt(max(0.0, 1.0 - error / signal))) if signal > 0.0 else 0.0
    # As if what was measured were true, and were measured once more.
    draws = np.random.default_rng(0).standard_normal((N_NOISES, len(energies)))
    again = energies + noise * draws
    regrets = again[:, np.argmin(energies)] / again.min(axis=1) - 1.0
    return Reachable(
        spread_percent=100.0 * float(energies.max() / energies.min() - 1.0),
        correlation=ceiling,
        regret=float(regrets.mean()),
    )

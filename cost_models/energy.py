"""Energy of a candidate, from its power and its measured latency.

Latency is measured for every candidate, cheaply and to about one per cent. Learning
power instead of energy spends no error on time, and power is bounded and smooth.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from cost_models.base import Prediction
from cost_models.boosting import BoostedEnsemble, BoostingConfig
from cost_models.dataset import over_group_best
from cost_models.energy_rows import EnergyRows, energy_mj, power_w
from cost_models.group_means import GroupMeans

MIN_ROWS = 6
LOW_ENERGY_GAMMA = 4.0


class EnergyModel(Protocol):
    """Predicts millijoules per launch; trained from scratch on all rows known so far.

    Equal rows and seed give equal predictions, bit for bit, in every process.
    """

    @property
    def is_fitted(self) -> bool:
        """False until :meth:`fit` saw enough rows; ``predict`` must not be called before."""

    def fit(self, rows: EnergyRows, energies_mj: np.ndarray) -> None:
        """Learn from measured energies; too few rows leave the model unfitted."""

    def predict(self, rows: EnergyRows) -> Prediction:
        """Millijoules with the standard deviation of their error."""


class PowerModel:
    """Boosted trees on what a candidate's power differs from its task's.

    Inside the low-latency band of one task powers differ by a few per cent, between tasks
    by a factor of five. The task's own mean, pulled towards the mean of all where few rows
    are known, takes the difference between tasks out of what the trees must learn.

    Args:
        seed: Same seed and rows, same predictions.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._ensemble = BoostedEnsemble(BoostingConfig(n_members=5, max_depth=4), seed=seed)
        self._means = GroupMeans()

    @property
    def is_fitted(self) -> bool:
        """True once enough rows were seen."""
        return self._ensemble.is_fitted

    def fit(self, rows: EnergyRows, energies_mj: np.ndarray) -> None:
        """Learn from energies; fewer than 6 rows teach nothing."""
        if len(rows) < MIN_ROWS:
            return
        log_power = np.log(power_w(energies_mj, rows.latency_us))
        self._means.fit(log_power, rows.groups)
        targets = log_power - self._means.of(rows.groups)
        weights = low_energy_weights(energies_mj, rows.groups, gamma=LOW_ENERGY_GAMMA)
        self._ensemble.fit(rows.features, targets, weights)

    def predict(self, rows: EnergyRows) -> Prediction:
        """See :class:`EnergyModel`."""
        answer = self._ensemble.predict(rows.features)
        power = np.exp(answer.mean + self._means.of(rows.groups))
        mean = energy_mj(power, rows.latency_us)
        return Prediction(mean=mean, spread=mean * answer.spread)


def low_energy_weights(energies_mj: np.ndarray, groups: np.ndarray, *, gamma: float) -> np.ndarray:
    """``(least energy of the task / energy) ** gamma``: errors count where winners are.

    Energies of fast candidates differ by a third at most, so a visible focus needs
    ``gamma`` of 4 to 8.
    """
    return np.asarray(over_group_best(energies_mj, groups) ** -gamma)

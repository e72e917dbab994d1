"""The published way to predict energy, as far as it is known: the baseline to beat.

Source:
    arXiv 2411.18873 (abstract and public summaries): XGBoost over high-level features of
    the kernel with a weighted loss. Label and weight follow the tuner it builds on, with
    energy in place of time; its exact formulas were not available.
"""

from __future__ import annotations

import numpy as np

from cost_models.base import Prediction
from cost_models.boosting import BoostedEnsemble, BoostingConfig
from cost_models.dataset import over_group_best
from cost_models.energy_rows import EnergyRows

MIN_ROWS = 6
LEAST_SHARE = 0.05
"""A predicted share below this stands for "twenty times the best or worse"."""


class PublishedEnergyModel:
    """Boosted trees on ``least energy of the task / energy``, from early features alone.

    The loss is ``sum of share * (share - prediction)^2``. Neither the measured latency nor
    anything the compiler reports is looked at.

    Args:
        seed: Same seed and rows, same predictions.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._ensemble = BoostedEnsemble(BoostingConfig(n_members=5, max_depth=6), seed=seed)

    @property
    def is_fitted(self) -> bool:
        """True once enough rows were seen."""
        return self._ensemble.is_fitted

    def fit(self, rows: EnergyRows, energies_mj: np.ndarray) -> None:
        """Learn from energies; fewer than 6 rows teach nothing."""
        if len(rows) < MIN_ROWS:
            return
        share = 1.0 / over_group_best(energies_mj, rows.groups)
        self._ensemble.fit(rows.early, share, share)
        self._overall_mj = float(energies_mj.min())

    def predict(self, rows: EnergyRows) -> Prediction:
        """See :class:`~cost_models.energy.EnergyModel`; only the order means something for a
        task whose least energy is unknown.
        """
        answer = self._ensemble.predict(rows.early)
        share = np.maximum(answer.mean, LEAST_SHARE)
        least = np.where(np.isnan(rows.least_mj), self._overall_mj, rows.least_mj)
        mean = least / share
        return Prediction(mean=mean, spread=mean * answer.spread / share)

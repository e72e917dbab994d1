"""Power of a candidate; its energy follows from power and latency.

Latency is measured for every candidate, cheaply and to about one per cent. Learning
power instead of energy spends no error on time, and power is bounded and smooth.
"""

from __future__ import annotations

import numpy as np

from cost_models.base import Prediction
from cost_models.boosting import BoostedEnsemble, BoostingConfig
from cost_models.dataset import Dataset, over_group_best

MIN_ROWS = 6


class PowerModel:
    """Board power while a candidate runs back to back, watts.

    Learns ``(power - idle) / (limit - idle)``, so that a model can move between devices.

    Args:
        seed: Same seed and rows, same predictions.
        idle_w: Power of the idle device; 0 if unknown.
        limit_w: Power limit; ``None`` takes the highest power seen.
    """

    def __init__(self, *, seed: int = 0, idle_w: float = 0.0, limit_w: float | None = None) -> None:
        self._ensemble = BoostedEnsemble(BoostingConfig(n_members=5, max_depth=4), seed=seed)
        self._idle_w = idle_w
        self._limit_w = limit_w
        self._range_w = 1.0

    @property
    def is_fitted(self) -> bool:
        """True once enough rows were seen."""
        return self._ensemble.is_fitted

    def fit(self, dataset: Dataset) -> None:
        """Learn from measured powers in watts; fewer than 6 rows teach nothing."""
        if len(dataset) < MIN_ROWS:
            return
        limit_w = float(dataset.values.max()) if self._limit_w is None else self._limit_w
        self._range_w = max(limit_w - self._idle_w, 1e-9)
        weights = np.ones(len(dataset)) if dataset.weights is None else dataset.weights
        targets = (dataset.values - self._idle_w) / self._range_w
        self._ensemble.fit(dataset.features, targets, weights)

    def predict(self, features: np.ndarray) -> Prediction:
        """Watts, never below the idle power."""
        share = self._ensemble.predict(features)
        return Prediction(
            mean=np.maximum(self._idle_w + share.mean * self._range_w, max(self._idle_w, 1e-3)),
            spread=share.spread * self._range_w,
        )


def energy_mj(power_w: np.ndarray, latency_us: np.ndarray) -> np.ndarray:
    """Millijoules per launch at a power and a latency, element by element."""
    return np.asarray(power_w * latency_us * 1e-3)


def low_energy_weights(energies_mj: np.ndarray, groups: np.ndarray, *, gamma: float) -> np.ndarray:
    """``(least energy of the task / energy) ** gamma``: errors count where winners are.

    Energies of fast candidates differ by a third at most, so a visible focus needs
    ``gamma`` of 4 to 8.

    Source:
        Energy search specification, section 3.4.
    """
    return np.asarray(over_group_best(energies_mj, groups) ** -gamma)

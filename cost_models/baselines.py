"""What a power model must beat to be worth its name."""

from __future__ import annotations

import numpy as np

from cost_models.base import Prediction
from cost_models.dataset import Dataset


class ConstantPower:
    """Every candidate draws the mean power: energy is then proportional to latency."""

    def __init__(self) -> None:
        self._mean_w: float | None = None
        self._spread_w = 0.0

    @property
    def is_fitted(self) -> bool:
        """True once one row was seen."""
        return self._mean_w is not None

    def fit(self, dataset: Dataset) -> None:
        """Take mean and standard deviation of the measured powers, watts."""
        if len(dataset):
            self._mean_w = float(dataset.values.mean())
            self._spread_w = float(dataset.values.std())

    def predict(self, features: np.ndarray) -> Prediction:
        """The mean power for every row."""
        if self._mean_w is None:
            raise ValueError("constant power was asked for before any power was measured")
        n_rows = len(features)
        return Prediction(
            mean=np.full(n_rows, self._mean_w), spread=np.full(n_rows, self._spread_w)
        )

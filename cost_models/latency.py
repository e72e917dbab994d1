"""How much slower than the best of its task a candidate will be."""

from __future__ import annotations

import numpy as np

from cost_models.base import Prediction
from cost_models.boosting import BoostedEnsemble, BoostingConfig
from cost_models.dataset import Dataset, over_group_best

MIN_ROWS = 8


class LatencyModel:
    """One model over all tasks of a run.

    Values are latencies. What is learnt and predicted is ``log2(latency / best latency of
    the task)``: 0 for the best known, 1 for twice its time. Rows weigh ``best / latency``,
    so the error counts where winners are.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._ensemble = BoostedEnsemble(BoostingConfig(n_members=3), seed=seed)

    @property
    def is_fitted(self) -> bool:
        """True once enough rows were seen."""
        return self._ensemble.is_fitted

    def fit(self, dataset: Dataset) -> None:
        """Learn from latencies in any one unit; fewer than 8 rows teach nothing."""
        if len(dataset) < MIN_ROWS:
            return
        slowdown = over_group_best(dataset.values, dataset.groups)
        weights = 1.0 / slowdown
        if dataset.weights is not None:
            weights = weights * dataset.weights
        self._ensemble.fit(dataset.features, np.log2(slowdown), weights)

    def predict(self, features: np.ndarray) -> Prediction:
        """``log2`` of the slow-down against the best known of the task."""
        return self._ensemble.predict(features)

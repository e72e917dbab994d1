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
    so the error counts where winners are. With a prior, which other workloads of the same
    design space taught, only what it misses is learnt.

    Args:
        seed: Same seed and rows, same predictions.
        prior: Predicts the same number from the same features.
    """

    def __init__(self, *, seed: int = 0, prior: BoostedEnsemble | None = None) -> None:
        self._seed = seed
        self._prior = prior
        self._ensemble: BoostedEnsemble | None = None

    @property
    def is_fitted(self) -> bool:
        """True once enough rows were seen, or a prior is there."""
        return self._ensemble is not None or self._prior is not None

    def fit(self, dataset: Dataset) -> None:
        """Learn from latencies in any one unit; fewer than 8 rows teach nothing."""
        self._ensemble = None
        if len(dataset) < MIN_ROWS:
            return
        slowdown = over_group_best(dataset.values, dataset.groups)
        weights = 1.0 / slowdown
        if dataset.weights is not None:
            weights = weights * dataset.weights
        self._ensemble = BoostedEnsemble(BoostingConfig(n_members=3), seed=self._seed)
        left = np.log2(slowdown) - self._expected(dataset.features)
        self._ensemble.fit(dataset.features, left, weights)

    def predict(self, features: np.ndarray) -> Prediction:
        """``log2`` of the slow-down against the best known of the task."""
        if self._ensemble is None:
            if self._prior is None:
                raise ValueError("the latency model was asked for before it was fitted")
            return self._prior.predict(features)
        answer = self._ensemble.predict(features)
        return Prediction(mean=answer.mean + self._expected(features), spread=answer.spread)

    def _expected(self, features: np.ndarray) -> np.ndarray:
        if self._prior is None or not len(features):
            return np.zeros(len(features))
        return self._prior.predict(features).mean


def slowdown_prior(datasets: Dataset, *, seed: int = 0) -> BoostedEnsemble:
    """A prior for workloads that are not among its rows; members draw whole workloads.

    Args:
        datasets: Latencies of one design space, a group per workload.
        seed: Same seed and rows, same predictions.
    """
    slowdown = over_group_best(datasets.values, datasets.groups)
    _, numbers, counts = np.unique(datasets.groups, return_inverse=True, return_counts=True)
    weights = len(slowdown) / len(counts) / counts[numbers] / slowdown
    config = BoostingConfig(n_members=5, n_trees=60, max_depth=5, learning_rate=0.1)
    model = BoostedEnsemble(config, seed=seed)
    model.fit(datasets.features, np.log2(slowdown), weights, blocks=numbers)
    return model

"""What every cost model does: learn from measured rows, predict with a spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cost_models.dataset import Dataset


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """Predicted values of several candidates.

    Attributes:
        mean: In the model's unit, float64, shape (n_candidates,).
        spread: Standard deviation expected of ``measured - mean``, same shape.
    """

    mean: np.ndarray
    spread: np.ndarray


class CostModel(Protocol):
    """A model that is trained from scratch on all rows known so far.

    Equal rows and seed give equal predictions, bit for bit, in every process: the
    search relies on it to continue where it was killed.
    """

    @property
    def is_fitted(self) -> bool:
        """False until :meth:`fit` saw enough rows; ``predict`` must not be called before."""

    def fit(self, dataset: Dataset) -> None:
        """Learn from all rows; too few rows leave the model unfitted."""

    def predict(self, features: np.ndarray) -> Prediction:
        """Predict rows of shape (n_candidates, n_features)."""

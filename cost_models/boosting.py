"""A small ensemble of boosted trees with an honest spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cost_models.base import Prediction

MAX_BIN = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostingConfig:
    """Size of an ensemble.

    Attributes:
        n_members: Boosters, each trained on its own bootstrap draw of rows.
        n_trees: Trees per booster.
        max_depth: Splits from root to leaf.
        learning_rate: Share of each tree's answer that is used.
        n_columns: Features a tree may look at; keeps wide features cheap.
    """

    n_members: int = 5
    n_trees: int = 40
    max_depth: int = 5
    learning_rate: float = 0.2
    n_columns: int = 60


class BoostedEnsemble:
    """Boosters on bootstrap draws: as many rows as there are, drawn with replacement.

    Rows that a member did not draw measure its error, so the spread holds both the
    disagreement of the members and the error none of them knows of.
    """

    def __init__(self, config: BoostingConfig, *, seed: int) -> None:
        self.config = config
        self.seed = seed
        self._members: list[Any] = []
        self._unseen_error = 0.0

    @property
    def is_fitted(self) -> bool:
        """True after :meth:`fit`."""
        return bool(self._members)

    def fit(self, features: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> None:
        """Train every member from scratch.

        Args:
            features: float32, shape (n_rows, n_features).
            targets: float64, shape (n_rows,).
            weights: float64, shape (n_rows,), positive.
        """
        import xgboost

        rng = np.random.default_rng(self.seed)
        n_rows = len(targets)
        # Binning the features costs more than the trees: it is done once, and each member
        # weighs the rows by how often it drew them.
        data = xgboost.QuantileDMatrix(features, label=targets, max_bin=MAX_BIN, nthread=1)
        self._members, squared = [], []
        for member in range(self.config.n_members):
            counts = np.bincount(rng.integers(n_rows, size=n_rows), minlength=n_rows)
            unseen = np.flatnonzero(counts == 0)
            data.set_weight((weights * counts).astype(np.float32))
            booster = xgboost.train(
                self._parameters(member, features.shape[1]), data, self.config.n_trees
            )
            self._members.append(booster)
            if len(unseen):
                squared.append((booster.inplace_predict(features[unseen]) - targets[unseen]) ** 2)
        self._unseen_error = float(np.sqrt(np.mean(np.concatenate(squared)))) if squared else 0.0

    def _parameters(self, member: int, n_features: int) -> dict[str, Any]:
        # One thread: sums of gradients then always add up in the same order.
        return {
            "objective": "reg:squarederror",
            "tree_method": "hist",
            "max_bin": MAX_BIN,
            "max_depth": self.config.max_depth,
            "eta": self.config.learning_rate,
            "colsample_bytree": min(1.0, self.config.n_columns / max(1, n_features)),
            "min_child_weight": 0.0,
            "gamma": 1e-4,
            "nthread": 1,
            "seed": self.seed * 1000 + member,
            "verbosity": 0,
        }

    def predict(self, features: np.ndarray) -> Prediction:
        """Mean over members, with the spread, for rows of shape (n, n_features)."""
        answers = self.predict_members(features)
        spread = np.sqrt(answers.var(axis=0) + self._unseen_error**2)
        return Prediction(mean=answers.mean(axis=0), spread=spread)

    def predict_members(self, features: np.ndarray) -> np.ndarray:
        """Each member's answer, float64, shape (n_members, n)."""
        answers = np.stack([member.inplace_predict(features) for member in self._members])
        return np.asarray(answers, dtype=np.float64)

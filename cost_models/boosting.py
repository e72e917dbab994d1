"""A small ensemble of boosted trees with an honest spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cost_models.base import Prediction

BOOTSTRAP_SHARE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostingConfig:
    """Size of an ensemble.

    Attributes:
        n_members: Boosters, each trained on its own draw of rows.
        n_trees: Trees per booster.
        max_depth: Splits from root to leaf.
        learning_rate: Share of each tree's answer that is used.
        column_share: Share of features a tree may look at; keeps wide features cheap.
    """

    n_members: int = 5
    n_trees: int = 40
    max_depth: int = 6
    learning_rate: float = 0.2
    column_share: float = 0.4


class BoostedEnsemble:
    """Boosters on random draws of 80 % of the rows.

    Rows that a member did not see measure its error, so the spread holds both the
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
        n_seen = max(1, round(BOOTSTRAP_SHARE * n_rows))
        self._members, squared = [], []
        for member in range(self.config.n_members):
            order = rng.permutation(n_rows)
            seen, unseen = np.sort(order[:n_seen]), np.sort(order[n_seen:])
            data = xgboost.DMatrix(
                features[seen], label=targets[seen], weight=weights[seen], nthread=1
            )
            booster = xgboost.train(self._parameters(member), data, self.config.n_trees)
            self._members.append(booster)
            if len(unseen):
                squared.append((booster.inplace_predict(features[unseen]) - targets[unseen]) ** 2)
        self._unseen_error = float(np.sqrt(np.mean(np.concatenate(squared)))) if squared else 0.0

    def _parameters(self, member: int) -> dict[str, Any]:
        # One thread: sums of gradients then always add up in the same order.
        return {
            "objective": "reg:squarederror",
            "tree_method": "hist",
            "max_bin": 64,
            "max_depth": self.config.max_depth,
            "eta": self.config.learning_rate,
            "colsample_bytree": self.config.column_share,
            "min_child_weight": 0.0,
            "gamma": 1e-4,
            "nthread": 1,
            "seed": self.seed * 1000 + member,
            "verbosity": 0,
        }

    def predict(self, features: np.ndarray) -> Prediction:
        """Mean over members, with the spread, for rows of shape (n, n_features)."""
        answers = np.stack([member.inplace_predict(features) for member in self._members])
        answers = answers.astype(np.float64)
        spread = np.sqrt(answers.var(axis=0) + self._unseen_error**2)
        return Prediction(mean=answers.mean(axis=0), spread=spread)

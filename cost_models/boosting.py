"""A small ensemble of boosted trees with an honest spread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cost_models.base import Prediction

MAX_BIN = 64

Expected = Callable[[np.ndarray], np.ndarray]
"""From weights of the training rows to what is expected of each, both of shape (n_rows,)."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostedParts:
    """A trained ensemble as it is stored.

    Attributes:
        members: Boosters in XGBoost's own binary format.
        unseen_error: Root mean square error on rows that members did not draw.
    """

    members: tuple[bytes, ...]
    unseen_error: float


class BoostedEnsemble:
    """Boosters on bootstrap draws: as many rows as there are, drawn with replacement.

    Rows that a member did not draw measure its error, so the spread holds both the
    disagreement of the members and the error none of them knows of.

    Attributes:
        unseen_answers: Mean answer for each training row of the members that did not draw
            it, shape (n_rows,); nan where all did.
    """

    def __init__(self, config: BoostingConfig, *, seed: int) -> None:
        self.config = config
        self.seed = seed
        self.unseen_answers = np.empty(0)
        self._members: list[Any] = []
        self._unseen_error = 0.0

    @classmethod
    def from_parts(cls, parts: BoostedParts) -> BoostedEnsemble:
        """A trained ensemble that was stored; it answers as it did."""
        import xgboost

        found = cls(BoostingConfig(n_members=len(parts.members)), seed=0)
        for raw in parts.members:
            booster = xgboost.Booster({"nthread": 1})
            booster.load_model(bytearray(raw))
            found._members.append(booster)
        found._unseen_error = parts.unseen_error
        return found

    def parts(self) -> BoostedParts:
        """What :meth:`from_parts` needs."""
        return BoostedParts(
            members=tuple(bytes(one.save_raw("ubj")) for one in self._members),
            unseen_error=self._unseen_error,
        )

    @property
    def is_fitted(self) -> bool:
        """True after :meth:`fit`."""
        return bool(self._members)

    def fit(
        self,
        features: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        *,
        blocks: np.ndarray | None = None,
        expected: Expected | None = None,
    ) -> None:
        """Train every member from scratch.

        Args:
            features: float32, shape (n_rows, n_features).
            targets: float64, shape (n_rows,).
            weights: float64, shape (n_rows,), positive.
            blocks: Number of the block each row belongs to, shape (n_rows,). A member draws
                whole blocks, so that its error is that on blocks it knows nothing of; without
                blocks it draws rows.
            expected: A rougher model below the trees. It is asked once per member, in order,
                with the weights of that member's draw; trees learn what it leaves over.
                Without one, trees learn the targets themselves.
        """
        import xgboost

        rng = np.random.default_rng(self.seed)
        n_rows = len(targets)
        # Binning the features costs more than the trees: it is done once, and each member
        # weighs the rows by how often it drew them.
        data = xgboost.QuantileDMatrix(features, label=targets, max_bin=MAX_BIN, nthread=1)
        self._members = []
        answers = np.full((self.config.n_members, n_rows), np.nan)
        for member in range(self.config.n_members):
            counts = _drawn(n_rows if blocks is None else blocks, rng)
            unseen = np.flatnonzero(counts == 0)
            drawn = weights * counts
            below = np.zeros(n_rows) if expected is None else expected(drawn)
            data.set_label((targets - below).astype(np.float32))
            data.set_weight(drawn.astype(np.float32))
            booster = xgboost.train(
                self._parameters(member, features.shape[1]), data, self.config.n_trees
            )
            self._members.append(booster)
            if len(unseen):
                answers[member, unseen] = below[unseen] + booster.inplace_predict(features[unseen])
        squared = ((answers - targets) ** 2)[np.isfinite(answers)]
        self._unseen_error = float(np.sqrt(squared.mean())) if len(squared) else 0.0
        n_answers = np.isfinite(answers).sum(axis=0)
        total = np.nansum(answers, axis=0)
        self.unseen_answers = np.where(n_answers, total / np.maximum(1, n_answers), np.nan)

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

    def predict(self, features: np.ndarray, below: np.ndarray | None = None) -> Prediction:
        """Mean over members, with the spread, for rows of shape (n, n_features).

        Args:
            features: As those of :meth:`fit`.
            below: What each member's rougher model expects, shape (n_members, n).
        """
        answers = self.predict_members(features)
        if below is not None:
            answers = answers + below
        spread = np.sqrt(answers.var(axis=0) + self._unseen_error**2)
        return Prediction(mean=answers.mean(axis=0), spread=spread)

    def predict_members(self, features: np.ndarray) -> np.ndarray:
        """Each member's trees alone, float64, shape (n_members, n)."""
        answers = np.stack([member.inplace_predict(features) for member in self._members])
        return np.asarray(answers, dtype=np.float64)


def _drawn(among: int | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How often each row was drawn: rows by themselves, or in whole blocks; shape (n_rows,)."""
    if isinstance(among, int):
        return np.bincount(rng.integers(among, size=among), minlength=among)
    names, numbers = np.unique(among, return_inverse=True)
    counts = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
    return np.asarray(counts[numbers])

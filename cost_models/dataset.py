"""Measured rows a model learns from, grouped by task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Features and measured values of candidates, one row each.

    Attributes:
        features: float32, shape (n_rows, n_features); nan where a number is unknown.
        values: What was measured, in one unit, positive, float64, shape (n_rows,).
        groups: Number of the task each row belongs to, int64, shape (n_rows,).
        weights: Importance of each row, float64, shape (n_rows,); ``None`` for equal.
    """

    features: np.ndarray
    values: np.ndarray
    groups: np.ndarray
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        n_rows = len(self.values)
        if self.features.ndim != 2 or len(self.features) != n_rows or len(self.groups) != n_rows:
            raise ValueError(
                f"features of shape {self.features.shape} and {len(self.groups)} groups do not fit "
                f"{n_rows} values: expected one row of each per value"
            )
        if n_rows and not (np.isfinite(self.values).all() and (self.values > 0).all()):
            raise ValueError("values must be finite and positive: leave failed trials out")

    def __len__(self) -> int:
        return len(self.values)


def over_group_best(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Each value over the least value of its group, at least 1, shape (n_rows,)."""
    _, numbers = np.unique(groups, return_inverse=True)
    best = np.full(numbers.max(initial=-1) + 1, np.inf)
    np.minimum.at(best, numbers, values)
    return np.asarray(values / best[numbers])

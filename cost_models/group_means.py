"""Means per task, pulled towards the mean of all tasks where little is known."""

from __future__ import annotations

import numpy as np

PRIOR_ROWS = 1.0
"""Rows' worth of trust in the mean of all tasks."""


class GroupMeans:
    """Shrunk means by group; a group that was never seen has the mean of the groups."""

    def __init__(self) -> None:
        self._overall = 0.0
        self._means: dict[int, float] = {}

    def fit(
        self, values: np.ndarray, groups: np.ndarray, weights: np.ndarray | None = None
    ) -> None:
        """Take the means of values, shape (n,), by group, shape (n,).

        Args:
            values: What is averaged.
            groups: Number of the group of each.
            weights: How often each counts; once unless given.
        """
        weights = np.ones(len(values)) if weights is None else weights
        sums = {
            int(g): (float(weights[groups == g] @ values[groups == g]), weights[groups == g].sum())
            for g in np.unique(groups[weights > 0.0])
        }
        self._overall = float(np.mean([total / count for total, count in sums.values()]))
        self._means = {
            group: float((total + PRIOR_ROWS * self._overall) / (count + PRIOR_ROWS))
            for group, (total, count) in sums.items()
        }

    def of(self, groups: np.ndarray) -> np.ndarray:
        """The mean for each entry, shape (n,)."""
        return np.array([self._means.get(int(group), self._overall) for group in groups])

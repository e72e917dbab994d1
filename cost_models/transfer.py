"""Power or latency of kernels of workloads that were never measured, from compiled code.

    log value  =  log(costs of work)  +  what trees add

Every member of the ensemble draws whole workloads, so the errors it states are those on
workloads it knows nothing of. They have two parts: one that all candidates of a workload
share (``level``), which a few measurements remove, and one that remains (``within``), which
decides how well candidates of one workload are told apart.

Power is learnt and told as it would be without the device's power limit; what the limit leaves of
it is :func:`cost_models.power_limit.limited`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cost_models.base import Prediction
from cost_models.boosting import BoostedEnsemble, BoostedParts, BoostingConfig
from cost_models.dataset import over_group_best
from cost_models.power_limit import unlimited
from cost_models.work_costs import (
    WorkCosts,
    launch_columns,
    mix_columns,
    power_terms,
    time_terms,
)

Quantity = Literal["power", "latency"]

LEAST_WORKLOADS = 3
"""From fewer, nothing can be said of others."""

_TREES: dict[Quantity, BoostingConfig] = {
    "power": BoostingConfig(n_members=8, n_trees=20, max_depth=2, learning_rate=0.1),
    "latency": BoostingConfig(n_members=8, n_trees=60, max_depth=4, learning_rate=0.1),
}
"""Sizes with the least errors on workloads left out, on an H100: costs say nearly all of
power, and little of what latency lacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferParts:
    """A trained model as it is stored.

    Attributes:
        quantity: ``power`` in watts or ``latency`` in microseconds.
        costs: Each member's, per unit of work, see :mod:`cost_models.work_costs`.
        trees: What is added to the logarithm.
        level_error: Standard deviation of the logarithm's error that a workload shares.
        within_error: Standard deviation of what else it errs by.
        limit_w: Power limit that values were measured under, ``None`` if unknown.
    """

    quantity: Quantity
    costs: tuple[tuple[float, ...], ...]
    trees: BoostedParts
    level_error: float
    within_error: float
    limit_w: float | None = None


class TransferModel:
    """Natural logarithm of power (watts) or latency (microseconds).

    Args:
        quantity: Which of them.
        seed: Same seed and rows, same predictions.
        limit_w: Power limit that values are measured under, ``None`` if unknown.
    """

    def __init__(self, quantity: Quantity, *, seed: int = 0, limit_w: float | None = None) -> None:
        self.quantity = quantity
        self.limit_w = limit_w
        self.level_error = 0.0
        self.within_error = 0.0
        self._costs: list[WorkCosts] = []
        self._trees = BoostedEnsemble(_TREES[quantity], seed=seed)

    @property
    def is_fitted(self) -> bool:
        """True once rows of three workloads were seen."""
        return self._trees.is_fitted

    def fit(
        self, late: np.ndarray, values: np.ndarray, groups: np.ndarray, latency_us: np.ndarray
    ) -> None:
        """Learn from scratch; every workload counts alike, its fast candidates most.

        Args:
            late: Rows of :func:`~cost_models.features.compiler_features`, shape (n, n_features).
            values: Watts or microseconds, positive, shape (n,).
            groups: Number of the workload of each row, shape (n,).
            latency_us: Microseconds of each row, same shape.
        """
        names, numbers, counts = np.unique(groups, return_inverse=True, return_counts=True)
        if len(names) < LEAST_WORKLOADS:
            return
        weights = len(groups) / len(names) / counts[numbers] / over_group_best(latency_us, groups)
        terms, logs = self._terms(late), unlimited(np.log(values), self.limit_w)
        amounts = np.exp(logs)
        self._costs = []

        def expected(drawn: np.ndarray) -> np.ndarray:
            costs = WorkCosts()
            costs.fit(terms, amounts, drawn)
            self._costs.append(costs)
            return np.asarray(np.log(costs.predict(terms)))

        self._trees.fit(self._columns(late), logs, weights, blocks=numbers, expected=expected)
        left = logs - self._trees.unseen_answers
        self.level_error, self.within_error = _errors(left, numbers, weights)

    def predict(self, late: np.ndarray) -> Prediction:
        """Logarithms; the spread holds both errors."""
        members = self.predict_members(late)
        known = self.level_error**2 + self.within_error**2
        return Prediction(mean=members.mean(axis=0), spread=np.full(len(late), np.sqrt(known)))

    def predict_members(self, late: np.ndarray) -> np.ndarray:
        """Each member's logarithms, shape (n_members, n)."""
        terms = self._terms(late)
        below = np.log([costs.predict(terms) for costs in self._costs])
        return np.asarray(below + self._trees.predict_members(self._columns(late)))

    def _terms(self, late: np.ndarray) -> np.ndarray:
        return (power_terms if self.quantity == "power" else time_terms)(late)

    def _columns(self, late: np.ndarray) -> np.ndarray:
        return (launch_columns if self.quantity == "power" else mix_columns)(late)

    def parts(self) -> TransferParts:
        """What :meth:`from_parts` needs."""
        return TransferParts(
            quantity=self.quantity,
            costs=tuple(tuple(float(one) for one in each.costs) for each in self._costs),
            trees=self._trees.parts(),
            level_error=self.level_error,
            within_error=self.within_error,
            limit_w=self.limit_w,
        )

    @classmethod
    def from_parts(cls, parts: TransferParts) -> TransferModel:
        """A stored model; it answers as it did."""
        found = cls(parts.quantity, limit_w=parts.limit_w)
        found._costs = [WorkCosts(np.array(one)) for one in parts.costs]
        found._trees = BoostedEnsemble.from_parts(parts.trees)
        found.level_error, found.within_error = parts.level_error, parts.within_error
        return found


def _errors(errors: np.ndarray, numbers: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Standard deviations of what a workload's errors share and of the rest of them.

    Every workload counts alike in both, and in it its fast candidates most.
    """
    known = np.isfinite(errors)
    errors, numbers, weights = errors[known], numbers[known], weights[known]
    if not len(errors):
        return 0.0, 0.0
    totals = np.bincount(numbers, weights=weights)
    is_there = totals > 0.0
    safe = np.where(is_there, totals, 1.0)
    means = np.bincount(numbers, weights=weights * errors) / safe
    rest = errors - means[numbers]
    squares = np.bincount(numbers, weights=weights * rest**2) / safe
    return (
        float(np.sqrt(np.mean(means[is_there] ** 2))),
        float(np.sqrt(np.mean(squares[is_there]))),
    )

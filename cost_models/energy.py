"""Energy of a candidate, from its power and its measured latency.

Latency is measured for every candidate, cheaply and to about one per cent. Learning
power instead of energy spends no error on time, and power is bounded and smooth.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from cost_models.base import Prediction
from cost_models.boosting import BoostedEnsemble, BoostingConfig
from cost_models.dataset import over_group_best
from cost_models.energy_rows import EnergyRows, energy_mj, power_w
from cost_models.group_means import GroupMeans
from cost_models.power_limit import limited, slope, unlimited
from cost_models.transfer import TransferModel
from cost_models.work_costs import WorkCosts, power_terms

MIN_ROWS = 6

ROWS_BESIDE_PRIOR = 12
"""Own rows from which costs learnt from them have as much say as a prior. On an H100, one workload
left out: a prior orders best before any energy, the two together after sixteen."""


class EnergyModel(Protocol):
    """Predicts millijoules per launch; trained from scratch on all rows known so far.

    Equal rows and seed give equal predictions, bit for bit, in every process.
    """

    @property
    def is_fitted(self) -> bool:
        """False until :meth:`fit` saw enough rows; ``predict`` must not be called before."""

    def fit(self, rows: EnergyRows, energies_mj: np.ndarray) -> None:
        """Learn from measured energies; too few rows leave the model unfitted."""

    def predict(self, rows: EnergyRows) -> Prediction:
        """Millijoules with the standard deviation of their error."""


class PowerModel:
    """Power as costs of work, corrected by boosted trees.

    What work costs on the device is learnt from the run's own rows, and a prior from other
    workloads may know it too; where both do, the answer is the geometric mean of theirs. Both say
    how candidates differ; the mean of the task takes away what they share. Between the fast
    candidates of one task powers differ by a few per cent, between tasks by a factor of five.
    Before building nothing is known of a candidate's work: the mean of its task stands alone.

    Args:
        seed: Same seed and rows, same predictions.
        prior: Knows the device from other workloads; asked only about built candidates.
    """

    def __init__(self, *, seed: int = 0, prior: TransferModel | None = None) -> None:
        self._seed = seed
        self._prior = prior
        self._corrected: _Expectation | None = None
        self._own: _OwnPower | None = None

    @property
    def is_fitted(self) -> bool:
        """True once enough rows were seen, or a prior is there."""
        return self._prior is not None or self._own is not None

    def fit(self, rows: EnergyRows, energies_mj: np.ndarray) -> None:
        """Learn from energies; few rows correct the mean of a prior, or teach nothing."""
        self._corrected, self._own = None, None
        if not len(rows):
            return
        power = np.exp(unlimited(np.log(power_w(energies_mj, rows.latency_us)), self._limit_w))
        # The fast ones are asked for: their errors count most.
        weights = 1.0 / over_group_best(rows.latency_us, rows.groups)
        if self._prior is not None:
            self._corrected = _Expectation()
            self._corrected.fit(rows, power, self._prior.predict(rows.late).mean, weights)
        if len(rows) >= (MIN_ROWS if self._prior is None else ROWS_BESIDE_PRIOR):
            self._own = _OwnPower(self._seed)
            self._own.fit(rows, power, weights)

    def predict(self, rows: EnergyRows) -> Prediction:
        """See :class:`EnergyModel`."""
        logs = []
        if self._prior is not None:
            logs.append(self._by_prior(rows, self._prior))
        if self._own is not None:
            logs.append(self._own.predict(rows))
        if not logs:
            raise ValueError("the power model was asked for before it was fitted")
        log_w = np.mean([one.mean for one in logs], axis=0)
        error = np.mean([one.spread for one in logs], axis=0) * slope(log_w, self._limit_w)
        mean = energy_mj(np.exp(limited(log_w, self._limit_w)), rows.latency_us)
        return Prediction(mean=mean, spread=mean * error)

    @property
    def _limit_w(self) -> float | None:
        """Of the device, if the prior knows it."""
        return None if self._prior is None else self._prior.limit_w

    def _by_prior(self, rows: EnergyRows, prior: TransferModel) -> Prediction:
        """Logarithm of watts; the mean of the task is known once there is a row."""
        known = prior.predict(rows.late).mean if len(rows) else np.empty(0)
        if self._corrected is None:
            error = np.hypot(prior.within_error, prior.level_error)
            return Prediction(mean=known, spread=np.full(len(rows), error))
        mean = self._corrected.of(rows, known)
        return Prediction(mean=mean, spread=np.full(len(rows), prior.within_error))


class _OwnPower:
    """Logarithm of watts by costs of work and trees, learnt from the run's own rows."""

    def __init__(self, seed: int) -> None:
        self._below = _Expectation()
        self._ensemble = BoostedEnsemble(BoostingConfig(n_members=5, max_depth=4), seed=seed)

    def fit(self, rows: EnergyRows, power: np.ndarray, weights: np.ndarray) -> None:
        """Learn from powers in watts, shape (n,)."""
        self._below.fit(rows, power, None, weights)
        left = np.log(power) - self._below.of(rows, None)
        self._ensemble.fit(rows.features, left, weights)

    def predict(self, rows: EnergyRows) -> Prediction:
        """Logarithms with the standard deviations of their errors."""
        trees = self._ensemble.predict(rows.features)
        return Prediction(
            mean=self._below.of(rows, None) + trees.mean,
            spread=trees.spread * self._below.optimism,
        )


class _Expectation:
    """Logarithm of watts before trees: a prior or costs of work, and means of tasks.

    Attributes:
        optimism: Errors on new rows over those on the rows that the costs were fitted to.
    """

    def __init__(self) -> None:
        self._costs: WorkCosts | None = None
        self._means = GroupMeans()
        self.optimism = 1.0

    def fit(
        self, rows: EnergyRows, power: np.ndarray, prior: np.ndarray | None, weights: np.ndarray
    ) -> None:
        """Learn from powers, shape (n,); ``prior`` stands in the place of costs if given."""
        if prior is None and rows.late.shape[1]:
            self._costs = WorkCosts()
            self._costs.fit(power_terms(rows.late), power, weights)
            n_free = int((self._costs.costs > 0.0).sum())
            self.optimism = float(np.sqrt(len(rows) / max(1, len(rows) - n_free)))
        self._means.fit(np.log(power) - self._before_means(rows, prior), rows.groups, weights)

    def of(self, rows: EnergyRows, prior: np.ndarray | None) -> np.ndarray:
        """What is expected of each row, shape (n,)."""
        return np.asarray(self._before_means(rows, prior) + self._means.of(rows.groups))

    def _before_means(self, rows: EnergyRows, prior: np.ndarray | None) -> np.ndarray:
        if prior is not None:
            return prior
        if self._costs is None:
            return np.zeros(len(rows))
        return np.asarray(np.log(self._costs.predict(power_terms(rows.late))))

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
from cost_models.transfer import TransferModel
from cost_models.work_costs import WorkCosts, power_terms

MIN_ROWS = 6

ROWS_BEYOND_PRIOR = 12
"""Own rows that tell more than any other workload. On an H100, with one workload left out: a
prior orders best before any energy, own costs after sixteen."""


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

    What work costs on the device is learnt from the run's own rows; while these are few, a
    prior from other workloads may stand in. Both say how candidates differ before trees know
    anything; the mean of the task then takes away what they share. Between the fast
    candidates of one task powers differ by a few per cent, between tasks by a factor of five.
    Before building nothing is known of a candidate's work: the mean of its task stands alone.

    Args:
        seed: Same seed and rows, same predictions.
        prior: Knows the device from other workloads; asked only about built candidates.
    """

    def __init__(self, *, seed: int = 0, prior: TransferModel | None = None) -> None:
        self._seed = seed
        self._prior = prior
        self._ensemble: BoostedEnsemble | None = None
        self._below: _Expectation | None = None
        self._uses_prior = prior is not None

    @property
    def is_fitted(self) -> bool:
        """True once enough rows were seen, or a prior is there."""
        return self._prior is not None or self._ensemble is not None

    def fit(self, rows: EnergyRows, energies_mj: np.ndarray) -> None:
        """Learn from energies; few rows correct the mean of a prior, or teach nothing."""
        self._ensemble, self._below = None, None
        self._uses_prior = self._prior is not None and len(rows) < ROWS_BEYOND_PRIOR
        if not len(rows) or (not self._uses_prior and len(rows) < MIN_ROWS):
            return
        power = power_w(energies_mj, rows.latency_us)
        prior = self._of_prior(rows)
        # The fast ones are asked for: their errors count most.
        weights = 1.0 / over_group_best(rows.latency_us, rows.groups)
        self._below = _Expectation()
        self._below.fit(rows, power, prior, weights)
        if self._uses_prior:
            return
        left = np.log(power) - self._below.of(rows, prior)
        self._ensemble = BoostedEnsemble(BoostingConfig(n_members=5, max_depth=4), seed=self._seed)
        self._ensemble.fit(rows.features, left, weights)

    def predict(self, rows: EnergyRows) -> Prediction:
        """See :class:`EnergyModel`."""
        prior = self._of_prior(rows)
        if self._below is not None:
            below = self._below.of(rows, prior)
        elif prior is not None:
            below = prior
        else:
            raise ValueError("the power model was asked for before it was fitted")
        if self._ensemble is not None and self._below is not None:
            trees = self._ensemble.predict(rows.features)
            answer = Prediction(mean=below + trees.mean, spread=trees.spread * self._below.optimism)
        else:
            answer = Prediction(mean=below, spread=np.full(len(rows), self._prior_error()))
        mean = energy_mj(np.exp(answer.mean), rows.latency_us)
        return Prediction(mean=mean, spread=mean * answer.spread)

    def _prior_error(self) -> float:
        """The mean of the task is known once there is a row."""
        if self._prior is None:
            return 0.0
        level = self._prior.level_error if self._below is None else 0.0
        return float(np.hypot(self._prior.within_error, level))

    def _of_prior(self, rows: EnergyRows) -> np.ndarray | None:
        """The prior's logarithm of watts, ``None`` where it is not in use."""
        if self._prior is None or not self._uses_prior:
            return None
        return self._prior.predict(rows.late).mean if len(rows) else np.empty(0)


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

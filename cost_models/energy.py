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
LOW_ENERGY_GAMMA = 4.0


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

    What work costs on the device is learnt from the run's own rows, or by a prior from other
    workloads. Both say how candidates differ before trees know anything; the mean of the
    task then takes away what they share. Between the fast candidates of one task powers
    differ by a few per cent, between tasks by a factor of five. Before building nothing is
    known of a candidate's work: the mean of its task stands alone there.

    Args:
        seed: Same seed and rows, same predictions.
        prior: Knows the device from other workloads; asked only about built candidates.
    """

    def __init__(self, *, seed: int = 0, prior: TransferModel | None = None) -> None:
        self._seed = seed
        self._prior = prior
        self._ensemble: BoostedEnsemble | None = None
        self._below: list[_Expectation] = []

    @property
    def is_fitted(self) -> bool:
        """True once enough rows were seen, or a prior is there."""
        return self._prior is not None or self._ensemble is not None

    def fit(self, rows: EnergyRows, energies_mj: np.ndarray) -> None:
        """Learn from energies; fewer than 6 rows teach the mean alone, if there is a prior."""
        self._ensemble, self._below = None, []
        if not len(rows) or (self._prior is None and len(rows) < MIN_ROWS):
            return
        power = power_w(energies_mj, rows.latency_us)
        prior = self._of_prior(rows)

        def expected(drawn: np.ndarray) -> np.ndarray:
            below = _Expectation()
            below.fit(rows, power, prior, drawn)
            self._below.append(below)
            return below.of(rows, prior)

        if len(rows) < MIN_ROWS:
            expected(np.ones(len(rows)))
            return
        self._ensemble = BoostedEnsemble(BoostingConfig(n_members=5, max_depth=4), seed=self._seed)
        weights = low_energy_weights(energies_mj, rows.groups, gamma=LOW_ENERGY_GAMMA)
        self._ensemble.fit(rows.features, np.log(power), weights, expected=expected)

    def predict(self, rows: EnergyRows) -> Prediction:
        """See :class:`EnergyModel`."""
        prior = self._of_prior(rows)
        if self._ensemble is not None:
            below = np.array([one.of(rows, prior) for one in self._below])
            answer = self._ensemble.predict(rows.features, below)
        elif self._prior is not None and prior is not None:
            below = self._below[0].of(rows, prior) if self._below else prior
            error = float(np.hypot(self._prior.level_error, self._prior.within_error))
            answer = Prediction(mean=below, spread=np.full(len(rows), error))
        else:
            raise ValueError("the power model was asked for before it was fitted")
        mean = energy_mj(np.exp(answer.mean), rows.latency_us)
        return Prediction(mean=mean, spread=mean * answer.spread)

    def _of_prior(self, rows: EnergyRows) -> np.ndarray | None:
        """The prior's logarithm of watts, ``None`` without one."""
        if self._prior is None:
            return None
        return self._prior.predict(rows.late).mean if len(rows) else np.empty(0)


class _Expectation:
    """Logarithm of watts before trees: a prior or costs of work, and means of tasks."""

    def __init__(self) -> None:
        self._costs: WorkCosts | None = None
        self._means = GroupMeans()

    def fit(
        self, rows: EnergyRows, power: np.ndarray, prior: np.ndarray | None, weights: np.ndarray
    ) -> None:
        """Learn from powers, shape (n,); ``prior`` stands in the place of costs if given."""
        if prior is None and rows.late.shape[1]:
            self._costs = WorkCosts()
            self._costs.fit(power_terms(rows.late), power, weights)
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


def low_energy_weights(energies_mj: np.ndarray, groups: np.ndarray, *, gamma: float) -> np.ndarray:
    """``(least energy of the task / energy) ** gamma``: errors count where winners are.

    Energies of fast candidates differ by a third at most, so a visible focus needs
    ``gamma`` of 4 to 8.
    """
    return np.asarray(over_group_best(energies_mj, groups) ** -gamma)

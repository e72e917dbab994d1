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
    """Boosted trees on what a candidate's power differs from what was to be expected.

    Without a prior the expectation is the mean of its task, pulled towards the mean of all
    where few rows are known: powers differ by a few per cent between the fast candidates of
    one task and by a factor of five between tasks. With a prior, a model that learnt from
    other workloads, it is the prior's answer, corrected by the mean of the task.

    Args:
        seed: Same seed and rows, same predictions.
        prior: Knows the device; asked only about built candidates.
    """

    def __init__(self, *, seed: int = 0, prior: TransferModel | None = None) -> None:
        self._seed = seed
        self._prior = prior
        self._ensemble: BoostedEnsemble | None = None
        self._means = GroupMeans()

    @property
    def is_fitted(self) -> bool:
        """True once enough rows were seen, or a prior is there."""
        return self._prior is not None or self._ensemble is not None

    def fit(self, rows: EnergyRows, energies_mj: np.ndarray) -> None:
        """Learn from energies; fewer than 6 rows teach the mean alone, if there is a prior."""
        self._ensemble, self._means = None, GroupMeans()
        if not len(rows) or (self._prior is None and len(rows) < MIN_ROWS):
            return
        left = np.log(power_w(energies_mj, rows.latency_us)) - self._expected(rows)
        self._means.fit(left, rows.groups)
        if len(rows) < MIN_ROWS:
            return
        config = BoostingConfig(n_members=5, max_depth=4)
        self._ensemble = BoostedEnsemble(config, seed=self._seed)
        weights = low_energy_weights(energies_mj, rows.groups, gamma=LOW_ENERGY_GAMMA)
        self._ensemble.fit(rows.features, left - self._means.of(rows.groups), weights)

    def predict(self, rows: EnergyRows) -> Prediction:
        """See :class:`EnergyModel`."""
        log_power = self._expected(rows) + self._means.of(rows.groups)
        if self._ensemble is None:
            spread = np.full(len(rows), self._prior_error())
        else:
            answer = self._ensemble.predict(rows.features)
            log_power, spread = log_power + answer.mean, answer.spread
        mean = energy_mj(np.exp(log_power), rows.latency_us)
        return Prediction(mean=mean, spread=mean * spread)

    def _expected(self, rows: EnergyRows) -> np.ndarray:
        """The prior's logarithm of watts; nothing where there is no prior to ask."""
        if self._prior is None or not rows.late.shape[1] or not len(rows):
            return np.zeros(len(rows))
        return self._prior.predict(rows.late).mean

    def _prior_error(self) -> float:
        assert self._prior is not None
        return float(np.hypot(self._prior.level_error, self._prior.within_error))


def low_energy_weights(energies_mj: np.ndarray, groups: np.ndarray, *, gamma: float) -> np.ndarray:
    """``(least energy of the task / energy) ** gamma``: errors count where winners are.

    Energies of fast candidates differ by a third at most, so a visible focus needs
    ``gamma`` of 4 to 8.
    """
    return np.asarray(over_group_best(energies_mj, groups) ** -gamma)

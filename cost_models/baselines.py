"""What an energy model must beat to be worth its name."""

from __future__ import annotations

import numpy as np

from cost_models.base import Prediction
from cost_models.energy_rows import EnergyRows, energy_mj, power_w


class ConstantPower:
    """Every candidate draws the mean power of its task: energy is proportional to latency."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[float, float]] = {}
        self._overall_w: tuple[float, float] | None = None

    @property
    def is_fitted(self) -> bool:
        """True once one row was seen."""
        return self._overall_w is not None

    def fit(self, rows: EnergyRows, energies_mj: np.ndarray) -> None:
        """Take mean and standard deviation of the measured powers, by task and over all."""
        if not len(rows):
            return
        powers = power_w(energies_mj, rows.latency_us)
        self._overall_w = float(powers.mean()), float(powers.std())
        self._known = {}
        for group in np.unique(rows.groups):
            own = powers[rows.groups == group]
            # One value has no spread of its own.
            spread = own.std() if len(own) > 1 else powers.std()
            self._known[int(group)] = float(own.mean()), float(spread)

    def predict(self, rows: EnergyRows) -> Prediction:
        """Mean power of the task times latency."""
        if self._overall_w is None:
            raise ValueError("constant power was asked for before any power was measured")
        overall = self._overall_w
        found = np.array([self._known.get(int(group), overall) for group in rows.groups])
        found = found.reshape(len(rows), 2)
        return Prediction(
            mean=energy_mj(found[:, 0], rows.latency_us),
            spread=energy_mj(found[:, 1], rows.latency_us),
        )


class LinearEnergy:
    """Energy linear in bytes, operations and latency, without negative coefficients.

    What moving a byte, doing an operation and waiting a microsecond cost on this device;
    within one task only the latency differs.
    """

    def __init__(self) -> None:
        self._coefficients: np.ndarray | None = None
        self._spread_share = 0.0

    @property
    def is_fitted(self) -> bool:
        """True once there were as many rows as coefficients."""
        return self._coefficients is not None

    def fit(self, rows: EnergyRows, energies_mj: np.ndarray) -> None:
        """Least squares of relative errors; fewer than three rows teach nothing."""
        if len(rows) < 3:
            return
        from scipy.optimize import nnls

        # Dividing by the energy makes small kernels count as much as large ones.
        self._coefficients, _ = nnls(_terms(rows) / energies_mj[:, None], np.ones(len(rows)))
        errors = _terms(rows) @ self._coefficients / energies_mj - 1.0
        self._spread_share = float(np.sqrt(np.mean(errors**2)))

    def predict(self, rows: EnergyRows) -> Prediction:
        """See :class:`~cost_models.energy.EnergyModel`."""
        if self._coefficients is None:
            raise ValueError("the linear model was asked for before it was fitted")
        mean = _terms(rows) @ self._coefficients
        return Prediction(mean=mean, spread=mean * self._spread_share)


def _terms(rows: EnergyRows) -> np.ndarray:
    """Bytes, operations and latency in millions, shape (n, 3); unknown counts are no bytes."""
    terms = np.column_stack([rows.unique_bytes, rows.flops, rows.latency_us])
    return np.asarray(np.nan_to_num(terms, nan=0.0) * 1e-6)

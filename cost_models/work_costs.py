"""What each kind of work costs on a device: a sum of amounts, no cost below zero.

Trees cannot tell what lies beyond the workloads they were trained on; a sum of costs can.
It says the rough size, trees learn what is left.
"""

from __future__ import annotations

import numpy as np

from cost_models.features import CODE_NAMES, LAUNCH_NAMES, feature_columns
from cost_models.work import WORK_NAMES

_LOG_AMOUNTS = (*(f"log_{name}" for name in WORK_NAMES), "log_issued")
_LOG_RATES = ("log_issued_per_us", *(f"log_{name}_per_us" for name in WORK_NAMES))


class WorkCosts:
    """Values as non-negative costs times amounts, by least squares of relative errors.

    Attributes:
        costs: One per term, shape (n_terms,); empty before :meth:`fit`.
    """

    def __init__(self, costs: np.ndarray | None = None) -> None:
        self.costs = np.empty(0) if costs is None else costs

    def fit(self, terms: np.ndarray, values: np.ndarray, weights: np.ndarray) -> None:
        """Learn from amounts, shape (n, n_terms), and positive values, shape (n,)."""
        from scipy.optimize import nnls

        known = weights > 0.0
        terms, values, roots = terms[known], values[known], np.sqrt(weights[known])
        scale = np.maximum(terms.max(axis=0), 1e-30)
        found, _ = nnls(terms / scale / values[:, None] * roots[:, None], roots)
        self.costs = np.asarray(found / scale)

    def predict(self, terms: np.ndarray) -> np.ndarray:
        """Positive values, shape (n,)."""
        found = terms @ self.costs
        least = found[found > 0.0].min(initial=1.0)
        return np.asarray(np.maximum(found, least))


def time_terms(late: np.ndarray) -> np.ndarray:
    """What takes time: a launch, work per multiprocessor, bytes of the workload.

    A last wave that is not full takes as long as a full one, so work counts by
    ``ceil(waves) / waves``.

    Args:
        late: Rows of :func:`~cost_models.features.compiler_features`, shape (n, n_features).

    Returns:
        Amounts, shape (n, n_terms).
    """
    waves = np.nan_to_num(feature_columns(late, ["waves"]), nan=1.0)
    rounded = np.ceil(waves) / np.maximum(waves, 1e-9)
    work = _amounts(late, _LOG_AMOUNTS)
    whole = _amounts(late, ("log_flops", "log_bytes"))
    # A wave of one block takes as long as that block, however few blocks there are.
    depth = work[:, -1:] / np.maximum(feature_columns(late, ["occupancy"]), 0.02)
    return np.hstack([np.ones((len(late), 1)), rounded * work, whole, np.nan_to_num(depth)])


def power_terms(late: np.ndarray) -> np.ndarray:
    """What draws power: being on, work per multiprocessor and time, bytes of the workload.

    Args:
        late: See :func:`time_terms`; the rates hold the latency.

    Returns:
        Amounts, shape (n, n_terms).
    """
    whole = _amounts(late, ("log_flops_per_us", "log_bytes_per_us"))
    return np.hstack([np.ones((len(late), 1)), _amounts(late, _LOG_RATES), whole])


def without_latency(late: np.ndarray) -> np.ndarray:
    """The features that need no latency, shape (n, n_known)."""
    return late[:, : len(LAUNCH_NAMES) + len(CODE_NAMES)]


def _amounts(late: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Amounts behind logarithms ``log2(1 + amount)``; unknown ones count as nothing."""
    return np.nan_to_num(np.exp2(feature_columns(late, list(names)).astype(np.float64)) - 1.0)

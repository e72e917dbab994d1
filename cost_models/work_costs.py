"""What each kind of work costs on a device: a sum of amounts, no cost below zero.

Trees cannot tell what lies beyond the workloads they were trained on; a sum of costs can.
It says the rough size, trees learn what is left. Kinds are few on purpose: with one cost per
instruction class, workloads that were never seen are missed by four times as much.
"""

from __future__ import annotations

import numpy as np

from cost_models.features import CODE_NAMES, LAUNCH_NAMES, feature_columns

KINDS: tuple[tuple[str, ...], ...] = (
    ("issued",),
    ("tensor_macs",),
    ("fp32", "fp16", "special"),
    ("integer", "uniform"),
    ("global_load_bytes", "global_store_bytes", "async_copy_bytes"),
    ("shared_load_bytes", "shared_store_bytes"),
    ("local_bytes",),
    ("bulk_copy",),
)
"""Work per multiprocessor, by kinds that cost alike; names of ``cost_models.work``."""

WHOLE = ("flops", "bytes", "memory_bytes")
"""Operations and bytes of the workload, whoever does them, and what of the bytes comes from memory
because it does not fit into the last-level cache."""

_SIZES = ("log_code_bytes", "log_blocks", "log_flops", "log_bytes", "log_memory_bytes")
"""Launch features that tell workloads apart rather than candidates."""


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
    """What takes time: a launch, work per multiprocessor, bytes and operations.

    A last wave that is not full takes as long as a full one, so work counts by
    ``ceil(waves) / waves``.

    Args:
        late: Rows of :func:`~cost_models.features.compiler_features`, shape (n, n_features).

    Returns:
        Amounts, shape (n, n_terms).
    """
    waves = np.nan_to_num(feature_columns(late, ["waves"]), nan=1.0)
    rounded = np.ceil(waves) / np.maximum(waves, 1e-9)
    return np.hstack([np.ones((len(late), 1)), rounded * _work(late, ""), _whole(late, "")])


def power_terms(late: np.ndarray) -> np.ndarray:
    """What draws power: being on, work per multiprocessor and time, bytes and operations.

    Args:
        late: See :func:`time_terms`; the rates hold the latency.

    Returns:
        Amounts, shape (n, n_terms).
    """
    return np.hstack([np.ones((len(late), 1)), _work(late, "_per_us"), _whole(late, "_per_us")])


def launch_columns(late: np.ndarray) -> np.ndarray:
    """Geometry, registers, occupancy and waves, without sizes, shape (n, n_columns)."""
    return feature_columns(late, [name for name in LAUNCH_NAMES if name not in _SIZES])


def mix_columns(late: np.ndarray) -> np.ndarray:
    """Launch columns, and each amount of work against all instructions; knows no latency."""
    logs = [name for name in CODE_NAMES if name.startswith("log_") and name != "log_issued"]
    mix = feature_columns(late, logs) - feature_columns(late, ["log_issued"])
    return np.hstack([launch_columns(late), mix])


def _work(late: np.ndarray, suffix: str) -> np.ndarray:
    return np.column_stack(
        [_amounts(late, [f"log_{name}{suffix}" for name in kind]).sum(axis=1) for kind in KINDS]
    )


def _whole(late: np.ndarray, suffix: str) -> np.ndarray:
    return _amounts(late, [f"log_{name}{suffix}" for name in WHOLE])


def _amounts(late: np.ndarray, names: list[str]) -> np.ndarray:
    """Amounts behind logarithms ``log2(1 + amount)``; unknown ones count as nothing."""
    return np.nan_to_num(np.exp2(feature_columns(late, names).astype(np.float64)) - 1.0)

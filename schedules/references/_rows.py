"""What the references of the row-merging operators share: drawing rows, moving indices inside."""

from __future__ import annotations

import numpy as np

from schedules import draws
from schedules.workload import TensorSpec


def normal(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    """N(0, 1) in the dtype of an input."""
    return draws.normal(spec.shape, spec.dtype, rng)


def indices(values: np.ndarray) -> np.ndarray:
    """As the kernels take them."""
    return np.asarray(values, dtype=np.int32)


def inside(index: np.ndarray, n_rows: int) -> np.ndarray:
    """Indices outside their range moved to its nearest end, as the operators define it."""
    return np.asarray(np.clip(index, 0, n_rows - 1))


def mixed(
    one: np.ndarray, two: np.ndarray, first: np.ndarray | float, second: np.ndarray | float
) -> np.ndarray:
    """``first * one + second * two`` in float64; what has weight 0 counts as 0."""
    left = np.where(np.equal(first, 0.0), 0.0, one.astype(np.float64)) * first
    right = np.where(np.equal(second, 0.0), 0.0, two.astype(np.float64)) * second
    total: np.ndarray = left + right
    return total

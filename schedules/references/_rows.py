"""What the references of the row-merging operators share: drawing rows, moving indices inside."""

from __future__ import annotations

import numpy as np

from schedules import draws
from schedules.expected import Reference, affordable_rows, range_of
from schedules.workload import TensorSpec, Workload

# Reading, weighting and storing an element takes the time of this many products.
_FLOPS_PER_ELEMENT = 500


def normal(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    """N(0, 1) in the dtype of an input."""
    return draws.normal(spec.shape, spec.dtype, rng)


def places_of(workload: Workload) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Which rows of an output (repetitions, rows, width) to compute, ``None`` for all.

    Returns:
        Rows counted through; of each the repetition, and the row in that.
    """
    repetitions, n_rows, width = workload.outputs[0].shape
    rows = affordable_rows(workload, flops_per_row=_FLOPS_PER_ELEMENT * width)
    chosen = np.arange(repetitions * n_rows) if rows is None else rows
    return rows, chosen // n_rows, chosen % n_rows


def merged(
    workload: Workload, values: np.ndarray, rows: np.ndarray | None, *sources: np.ndarray
) -> list[Reference]:
    """The reference of rows that are made of rows of some sources.

    Args:
        workload: Whose output.
        values: Rows, float64.
        rows: See :func:`places_of`.
        sources: Every element lies between theirs, or is 0.
    """
    if rows is None:
        return [Reference(values=values.reshape(workload.outputs[0].shape))]
    return [Reference(values=values, rows=rows, limits=range_of(*sources))]


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

"""What one output must hold: every element, or a sample of rows of an output too large for that.

The rows of an output are the slices along its last axis, counted through all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from schedules.workload import TensorSpec, Workload

# About four seconds of float64 products on two cores, and 256 MiB of references.
MOST_FLOPS = 300e9
MOST_ELEMENTS = 1 << 25
# A sample is smaller than the largest whole, which it cannot replace anyway.
SAMPLE_SHARE = 0.5
LEAST_ROWS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One output as it must be.

    Attributes:
        values: float64, or the integers or bools themselves. Shape of the output, or
            (rows, last extent) where only a sample is known.
        rows: int64, increasing: which rows ``values`` are of; ``None`` if of all.
        limits: Least and greatest value that any element of a sampled output may have, the
            tighter the better; (0, 0) where everything is known.
    """

    values: np.ndarray
    rows: np.ndarray | None = None
    limits: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.rows is None:
            return
        if self.values.ndim != 2 or len(self.values) != len(self.rows):
            raise ValueError(
                f"a sample of {len(self.rows)} rows has values of shape {self.values.shape}: "
                "give one row of values per sampled row."
            )
        # What is never compared must at least be a number: NaN is how unwritten memory shows.
        if not np.isfinite(self.values).all() or not np.isfinite(self.limits).all():
            raise ValueError("a sampled reference must be finite, and so must its limits.")

    @property
    def is_whole(self) -> bool:
        """Whether every element is known."""
        return self.rows is None

    def known(self, actual: np.ndarray) -> np.ndarray:
        """The part of an output that ``values`` speak of, in their shape."""
        if self.rows is None:
            return actual
        return np.asarray(actual.reshape(-1, self.values.shape[1])[self.rows])

    def position(self, index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Where element ``index`` of the flat ``values`` lies in an output of a shape."""
        if self.rows is not None:
            width = self.values.shape[1]
            index = int(self.rows[index // width]) * width + index % width
        return tuple(int(i) for i in np.unravel_index(index, shape))


def rows_of(spec: TensorSpec) -> int:
    """How many rows an output has."""
    return prod(spec.shape[:-1])


def affordable_rows(workload: Workload, *, flops_per_row: float) -> np.ndarray | None:
    """Rows of the first output to compute, ``None`` for all of them.

    One row out of each of equal consecutive parts, so that no tile of a kernel that is larger than
    a part goes unseen, and the first and the last row, where ends are handled.

    Args:
        workload: Seeds the choice, so it is the same in every process.
        flops_per_row: Operations to compute one row of the first output.
    """
    spec = workload.outputs[0]
    n_rows, width = rows_of(spec), spec.shape[-1] if spec.shape else 1
    if n_rows * flops_per_row <= MOST_FLOPS and n_rows * width <= MOST_ELEMENTS:
        return None
    affordable = SAMPLE_SHARE * min(MOST_FLOPS / max(flops_per_row, 1), MOST_ELEMENTS / width)
    n_sampled = min(n_rows, max(LEAST_ROWS, int(affordable)))
    rng = np.random.default_rng(int(workload.workload_id, 16))
    edges = np.linspace(0, n_rows, n_sampled + 1).astype(np.int64)
    inside = rng.integers(edges[:-1], np.maximum(edges[1:], edges[:-1] + 1))
    return np.unique(np.concatenate([[0], inside, [n_rows - 1]]))

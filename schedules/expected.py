"""What one output must hold: every element, or a sample of rows of an output too large for that.

The rows of an output are the slices along its last axis, counted through all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from schedules.dtypes import is_integer, numpy_dtype
from schedules.workload import TensorSpec, Workload

# About a second of float64 products on two cores, and 128 MiB of references.
MOST_FLOPS = 60e9
MOST_ELEMENTS = 1 << 24
# A sample is smaller than the largest whole, which it cannot replace anyway.
SAMPLE_SHARE = 0.5
LEAST_ROWS = 32
# Rows that tiles of common heights begin and end with, and those that slices do.
TILE_HEIGHTS = (8, 16, 32, 64, 128, 256)
MOST_SLICES = 64
CHUNK = 1 << 18


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


def range_of(*arrays: np.ndarray) -> tuple[float, float]:
    """Least and greatest of all elements and 0: between them lie means of elements, and of none."""
    least = most = 0.0
    for array in arrays:
        flat = array.reshape(-1)
        for start in range(0, flat.size, CHUNK):
            # The short floats have no instructions for this.
            part = flat[start : start + CHUNK].astype(np.float32)
            least, most = min(least, float(part.min())), max(most, float(part.max()))
    return least, most


def finite_limits(dtype: str) -> tuple[float, float]:
    """Limits of elements of which nothing is known but that they are numbers."""
    if dtype == "bool":
        return 0.0, 1.0
    info: Any = np.iinfo if is_integer(dtype) else ml_dtypes.finfo
    found = info(numpy_dtype(dtype))
    return float(found.min), float(found.max)


def rows_of(spec: TensorSpec) -> int:
    """How many rows an output has."""
    return prod(spec.shape[:-1])


def affordable_rows(
    workload: Workload, *, flops_per_row: float, and_rows: Sequence[int] = ()
) -> np.ndarray | None:
    """Rows of the first output to compute, ``None`` for all of them.

    One row out of each of equal consecutive parts, so that no tile of a kernel that is larger than
    a part goes unseen, and rows where ends are handled: the first and the last of the output, of
    its slices along the axis before the last, and of some tiles.

    Args:
        workload: Seeds the choice, so it is the same in every process.
        flops_per_row: Operations to compute one row of the first output.
        and_rows: Rows with something special in them.
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
    ends = [*_slice_ends(spec, n_rows), *_tile_ends(spec, n_rows, rng)]
    del ends[max(LEAST_ROWS, n_sampled) :]
    chosen = np.unique(np.concatenate([[0, n_rows - 1], inside, ends, and_rows]).astype(np.int64))
    return chosen[(chosen >= 0) & (chosen < n_rows)]


def _slice_ends(spec: TensorSpec, n_rows: int) -> list[int]:
    """First and last row of slices along the axis before the last."""
    height = _slice_height(spec)
    starts = np.arange(0, n_rows, height)
    some = starts[:: max(1, len(starts) // MOST_SLICES)]
    return [int(row) for start in some for row in (start, start + height - 1)]


def _tile_ends(spec: TensorSpec, n_rows: int, rng: np.random.Generator) -> list[int]:
    """The last row of a tile and the first of the next, for every common height of tiles."""
    height = _slice_height(spec)
    ends = []
    for tile in TILE_HEIGHTS:
        if 2 * tile <= height:
            start = height * int(rng.integers(n_rows // height))
            border = start + tile * int(rng.integers(1, height // tile))
            ends += [border - 1, border]
    return ends


def _slice_height(spec: TensorSpec) -> int:
    return spec.shape[-2] if len(spec.shape) > 1 else 1

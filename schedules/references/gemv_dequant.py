"""Products of few rows with packed quantised matrices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from schedules.dtypes import numpy_dtype
from schedules.expected import Reference
from schedules.packing import TILE_COLUMNS, unpack_codes, unpack_groups
from schedules.workload import Workload

# Of the matrix in float64 at a time.
_PART_ELEMENTS = 1 << 24


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``; attributes as ``frontend.kernels.gemv_dequant`` writes them."""
    x = inputs[0].astype(np.float64)
    y = np.concatenate([x @ part.T for part in _parts(workload, inputs)], axis=-1)
    if workload.attrs["bias"]:
        y += inputs[-1].astype(np.float64)
    return [Reference(values=y)]


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """Codes over their whole range, positive scales, zero points that are codes."""
    highest = 2 ** int(workload.attrs["bits"])
    drawn = []
    for position, spec in enumerate(workload.inputs):
        if spec.dtype == "uint32":
            drawn.append(rng.integers(0, 1 << 32, spec.shape, dtype=np.uint32))
        elif spec.dtype == "uint8":
            drawn.append(rng.integers(0, highest, spec.shape).astype(np.uint8))
        elif position == 2:
            scales = rng.uniform(0.5, 1.5, spec.shape) / highest
            drawn.append(scales.astype(numpy_dtype(spec.dtype)))
        else:
            values = rng.standard_normal(spec.shape, dtype=np.float32)
            drawn.append(values.astype(numpy_dtype(spec.dtype)))
    return drawn


def _parts(workload: Workload, inputs: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The matrix in float64 by ranges of columns, each of shape (columns, depth)."""
    attrs = workload.attrs
    bits, depth, n_columns = int(attrs["bits"]), int(attrs["depth"]), int(attrs["n_columns"])
    n_tiles = max(1, _PART_ELEMENTS // (TILE_COLUMNS * depth))
    for first in range(0, -(-n_columns // TILE_COLUMNS), n_tiles):
        tiles = slice(first, first + n_tiles)
        width = min(n_tiles * TILE_COLUMNS, n_columns - first * TILE_COLUMNS)
        codes = unpack_codes(inputs[1][tiles], bits, n_columns=width, depth=depth)
        part = codes.astype(np.float64)
        part -= _spread(inputs[3][tiles], attrs, width) if attrs["zero_points"] else 2 ** (bits - 1)
        part *= _spread(inputs[2][tiles], attrs, width)
        yield part


def _spread(
    packed: np.ndarray, attrs: dict[str, int | float | str | bool], width: int
) -> np.ndarray:
    """One value per code from one per group."""
    values = unpack_groups(packed, n_columns=width).astype(np.float64)
    return np.repeat(values, int(attrs["block"]), axis=1)[:, : int(attrs["depth"])]

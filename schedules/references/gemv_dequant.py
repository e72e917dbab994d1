"""Products of few rows with packed quantised matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from schedules.dtypes import numpy_dtype
from schedules.expected import Reference
from schedules.gemv_dequant_problem import GATED_COLUMNS, columns_of, input_roles, tiles_of
from schedules.packing import TILE_COLUMNS, unpack_codes, unpack_groups
from schedules.workload import Attribute, Workload

Attributes = Mapping[str, Attribute]
Given = Mapping[str, np.ndarray]

# Of the matrix in float64 at a time.
_PART_ELEMENTS = 1 << 20
_erf = np.frompyfunc(math.erf, 1, 1)


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``; attributes as ``frontend.kernels.gemv_dequant`` writes them."""
    attrs = workload.attrs
    given = dict(zip(input_roles(attrs), inputs, strict=True))
    x = given["x"].astype(np.float64)
    if "x_scales" in given:
        x = x * given["x_scales"].astype(np.float64)
    sums = np.concatenate([x @ part.T for part in _parts(given, attrs)], axis=-1)
    if "bias" in given:
        bias = given["bias"].astype(np.float64)
        sums[..., : len(bias)] += bias
    return [Reference(values=values) for values in _outputs(sums, given, attrs)]


def _outputs(sums: np.ndarray, given: Given, attrs: Attributes) -> Iterator[np.ndarray]:
    """Finished outputs, from one sum per packed column."""
    first, gated = 0, bool(attrs["gated"])
    for columns in columns_of(attrs):
        n_packed = tiles_of(columns, gated=gated) * TILE_COLUMNS
        part = sums[..., first : first + n_packed]
        first += n_packed
        if gated:
            tiles = part.reshape(*part.shape[:-1], -1, 2, GATED_COLUMNS)
            gate, up = (tiles[..., i, :].reshape(*part.shape[:-1], -1) for i in (0, 1))
            values = _activated(gate, str(attrs["activation"])) * up
        else:
            values = _activated(part, str(attrs["activation"]))
        values = values[..., :columns]
        yield values + given["residual"].astype(np.float64) if "residual" in given else values


def _activated(values: np.ndarray, activation: str) -> np.ndarray:
    """One of ``schedules.gemv_dequant_problem.ACTIVATIONS``."""
    if activation == "silu":
        return values * 0.5 * (1.0 + np.tanh(0.5 * values))
    if activation == "gelu":
        return 0.5 * values * (1.0 + np.asarray(_erf(values / math.sqrt(2)), np.float64))
    if activation == "gelu_tanh":
        inner = math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)
        return 0.5 * values * (1.0 + np.tanh(inner))
    return np.maximum(values, 0.0) if activation == "relu" else values


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """Codes over their whole range, positive scales, zero points that are codes."""
    attrs = workload.attrs
    highest = 2 ** int(attrs["bits"])
    drawn = []
    for role, spec in zip(input_roles(attrs), workload.inputs, strict=True):
        if role == "codes":
            drawn.append(rng.integers(0, 1 << 32, spec.shape, dtype=np.uint32))
        elif role == "zeros":
            drawn.append(rng.integers(0, highest, spec.shape).astype(np.uint8))
        elif role == "scales":
            scales = rng.uniform(0.5, 1.5, spec.shape) / highest
            drawn.append(scales.astype(numpy_dtype(spec.dtype)))
        elif role == "x_scales":
            drawn.append(rng.uniform(0.01, 0.03, spec.shape).astype(numpy_dtype(spec.dtype)))
        elif spec.dtype == "int8":
            drawn.append(rng.integers(-127, 128, spec.shape).astype(np.int8))
        else:
            values = rng.standard_normal(spec.shape, dtype=np.float32)
            drawn.append(values.astype(numpy_dtype(spec.dtype)))
    return drawn


def _parts(given: Given, attrs: Attributes) -> Iterator[np.ndarray]:
    """The matrix in float64 by ranges of packed columns, each of shape (columns, depth)."""
    bits, depth, block = (int(attrs[name]) for name in ("bits", "depth", "block"))
    step = max(1, _PART_ELEMENTS // (TILE_COLUMNS * depth))
    for first in range(0, len(given["codes"]), step):
        tiles = slice(first, first + step)
        packed = given["codes"][tiles]
        n_columns = len(packed) * TILE_COLUMNS
        part = unpack_codes(packed, bits, n_columns=n_columns, depth=depth).astype(np.float64)
        scales = _by_group(given["scales"][tiles])
        zeros = _by_group(given["zeros"][tiles]) if "zeros" in given else None
        for group, start in enumerate(range(0, depth, block)):
            codes = part[:, start : start + block]
            codes -= 2 ** (bits - 1) if zeros is None else zeros[:, group, None]
            codes *= scales[:, group, None]
        yield part


def _by_group(packed: np.ndarray) -> np.ndarray:
    """Values of groups in float64, shape (columns, groups)."""
    return unpack_groups(packed, n_columns=len(packed) * TILE_COLUMNS).astype(np.float64)

"""Inputs for a whole model when nobody gave any: seeded, and meaningful by name and dtype."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from effcompile.dtypes import dtype_named
from effcompile.errors import OpenDimensions, UsageError
from effcompile.signature import ArgumentSpec, EntryPoint

# Below every vocabulary and category count in use, so that any embedding can look it up.
_LARGEST_INDEX = 16


def make_model_inputs(
    entry: EntryPoint, seed: int, dims: Mapping[str, int] | None = None
) -> list[npt.NDArray[Any]]:
    """One array per input of an entry point.

    Floats are N(0, 1), rounded to their dtype. A mask keeps everything, a position input
    counts along its last axis, a token type is 0 or 1, and other integers are indices from 0
    to 15. Every input has a generator of its own, so renaming or adding one leaves the others
    alone.

    Args:
        entry: What is called.
        seed: Same seed, same arrays.
        dims: Values of the open dimensions.

    Raises:
        OpenDimensions: A dimension is open and has no value.
        UsageError: A value is for a dimension that is not open.
    """
    dims = dims or {}
    needed = {extent for spec in entry.inputs for extent in spec.shape if isinstance(extent, str)}
    if unknown := sorted(set(dims) - needed):
        raise UsageError(
            f"{entry.name} has no open dimension {', '.join(unknown)}: "
            f"found {', '.join(sorted(needed)) or 'none'}."
        )
    if missing := sorted(needed - set(dims)):
        raise OpenDimensions(
            f"cannot make inputs for {entry.name}: dimensions {', '.join(missing)} are open. "
            f"Give each a value, for example --dim {missing[0]}=128."
        )
    return [_make(spec, seed, dims) for spec in entry.inputs]


def _make(spec: ArgumentSpec, seed: int, dims: Mapping[str, int]) -> npt.NDArray[Any]:
    shape = tuple(dims[extent] if isinstance(extent, str) else extent for extent in spec.shape)
    dtype = dtype_named(spec.dtype)
    rng = np.random.default_rng([seed, zlib.crc32(spec.name.encode())])
    words = spec.name.lower()
    if "mask" in words and dtype.kind in "biu":
        return np.ones(shape, dtype=dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        if "position" in words and shape:
            return np.broadcast_to(np.arange(shape[-1], dtype=dtype), shape).copy()
        n_choices = 2 if "type" in words or "segment" in words else _LARGEST_INDEX
        return rng.integers(0, n_choices, size=shape, dtype=dtype)
    return np.asarray(rng.standard_normal(shape), dtype=dtype)

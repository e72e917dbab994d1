"""Seeded, meaningful inputs for a workload.

Data values decide both what a comparison can see and how much power a kernel draws,
so floats are N(0, 1) in their true dtype. Two kinds of arguments need more care:

- integers may index into another argument: they stay below every extent and are small;
- programs may divide, take roots or logarithms of an argument. The float64 reference
  tells: if it is not finite on N(0, 1) data, all float data is drawn from [0.5, 1.5].
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from schedules.workload import TensorSpec, Workload

LARGEST_INDEX = 127


def make_inputs(workload: Workload, seed: int) -> list[np.ndarray]:
    """One array per input, in call order; equal for equal arguments in every process."""
    return _draw(workload, seed, positive=_needs_positive(workload))


_positive_by_id: dict[str, bool] = {}


def _needs_positive(workload: Workload) -> bool:
    """Whether the program is not finite on N(0, 1) data; asked once per workload."""
    from schedules.reference import compute_reference

    if workload.workload_id not in _positive_by_id:
        outputs = compute_reference(workload, _draw(workload, 0, positive=False))
        finite = all(np.isfinite(output).all() for output in outputs)
        _positive_by_id[workload.workload_id] = not finite
    return _positive_by_id[workload.workload_id]


def _draw(workload: Workload, seed: int, *, positive: bool) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    bound = _index_bound(workload)
    return [_draw_one(spec, rng, bound, positive=positive) for spec in workload.inputs]


def _index_bound(workload: Workload) -> int:
    """One more than the largest integer that is a valid index of every indexed axis."""
    extents = [
        extent
        for spec in workload.inputs
        if not is_integer(spec.dtype)
        for extent in spec.shape
        if extent > 1
    ]
    return min([LARGEST_INDEX, *extents])


def is_integer(dtype: str) -> bool:
    """Whether a dtype name means integers (bool is not one)."""
    return dtype.startswith(("int", "uint"))


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The NumPy dtype of a TVM dtype name, also for the short floats NumPy lacks."""
    return np.dtype(getattr(ml_dtypes, dtype, dtype))


def _draw_one(
    spec: TensorSpec, rng: np.random.Generator, index_bound: int, *, positive: bool
) -> np.ndarray:
    dtype = numpy_dtype(spec.dtype)
    if spec.dtype == "bool":
        return rng.integers(0, 2, size=spec.shape).astype(bool)
    if is_integer(spec.dtype):
        return rng.integers(0, index_bound, size=spec.shape).astype(dtype)
    if positive:
        return rng.uniform(0.5, 1.5, size=spec.shape).astype(dtype)
    return rng.standard_normal(size=spec.shape, dtype=np.float32).astype(dtype)

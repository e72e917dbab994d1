"""Seeded, meaningful inputs for a workload.

Data values decide both what a comparison can see and how much power a kernel draws,
so floats are N(0, 1) in their true dtype. Own operators may draw their own
(``schedules.references``). For others two kinds of arguments need more care:

- integers may index into another argument: they stay below every extent and are small;
- programs may divide, take roots or logarithms of an argument. The float64 reference
  tells: if it is not finite on N(0, 1) data, all float data is drawn from [0.5, 1.5].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schedules import draws
from schedules.dtypes import is_integer, numpy_dtype
from schedules.expected import Reference
from schedules.references import draw_of
from schedules.workload import TensorSpec, Workload

LARGEST_INDEX = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What a kernel is called with, and what it must give.

    Attributes:
        inputs: One array per input, in call order.
        references: One per output.
    """

    inputs: list[np.ndarray]
    references: list[Reference]


def make_inputs(workload: Workload, seed: int) -> list[np.ndarray]:
    """One array per input, in call order; equal for equal arguments in every process."""
    draw = draw_of(workload)
    if draw is not None:
        return draw(workload, np.random.default_rng(seed))
    return make_data(workload, seed).inputs


def make_data(workload: Workload, seed: int) -> Data:
    """Inputs and references; equal for equal arguments in every process."""
    from schedules.reference import references_of

    if draw_of(workload) is not None:
        inputs = make_inputs(workload, seed)
        return Data(inputs=inputs, references=references_of(workload, inputs))
    for positive in (False, True):
        inputs = _draw(workload, seed, positive=positive)
        references = references_of(workload, inputs)
        if all(np.isfinite(reference.values).all() for reference in references):
            break
    return Data(inputs=inputs, references=references)


def _draw(workload: Workload, seed: int, *, positive: bool) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    bound = _index_bound(workload)
    return [
        draw_tensor(spec, rng, index_bound=bound, positive=positive) for spec in workload.inputs
    ]


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


def draw_tensor(
    spec: TensorSpec,
    rng: np.random.Generator,
    *,
    index_bound: int = LARGEST_INDEX,
    positive: bool = False,
) -> np.ndarray:
    """One argument by the general rules.

    Args:
        spec: Shape and dtype.
        rng: Source of randomness.
        index_bound: Integers stay below it.
        positive: Floats are drawn from [0.5, 1.5] instead of N(0, 1).
    """
    dtype = numpy_dtype(spec.dtype)
    if spec.dtype == "bool":
        return rng.integers(0, 2, size=spec.shape).astype(bool)
    if is_integer(spec.dtype):
        return rng.integers(0, index_bound, size=spec.shape).astype(dtype)
    if positive:
        return rng.uniform(0.5, 1.5, size=spec.shape).astype(dtype)
    return draws.normal(spec.shape, spec.dtype, rng)

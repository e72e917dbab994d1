"""What a workload must give, and how far from it is still right.

Own operators have a reference of their own (``schedules.references``); all others are
computed by their program with every float raised to float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from schedules.analysis import reductions_of
from schedules.coordinates import largest_coordinate
from schedules.dtypes import is_float
from schedules.expected import Reference
from schedules.programs import function_of
from schedules.references import reference_of
from schedules.workload import Workload

FAST_MATH_ROUNDOFFS = 64.0
UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """An element is right if ``|actual - reference| <= atol * scale + rtol * |reference|``.

    Attributes:
        rtol: Share of the element itself.
        atol: Share of ``scale``, the root mean square of the finite reference.
    """

    rtol: float
    atol: float


def references_of(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """What every output must be, in float64 (integers and bools as they are).

    Args:
        workload: What to compute.
        inputs: One array per input, in call order, in the workload's dtypes.
    """
    compute = reference_of(workload)
    if compute is not None:
        return compute(workload, inputs)
    from schedules.program_reference import program_references

    return program_references(workload, inputs)


def compute_reference(workload: Workload, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Every element of every output; see :func:`references_of`.

    Raises:
        ValueError: The outputs are so large that only a sample is computed.
    """
    references = references_of(workload, inputs)
    if not all(reference.is_whole for reference in references):
        raise ValueError(
            f"only a sample of the outputs of {workload.name} is computed. Use references_of."
        )
    return [reference.values for reference in references]


def tolerance_of(workload: Workload) -> Tolerance:
    """How far a right kernel may be from the reference.

    Storing costs ``u_store`` of the element, the unit roundoff of the coarsest float
    among the arguments. A sum of ``n`` terms kept in a float of roundoff ``u_sum`` errs
    like a random walk: ``u_sum * sqrt(n)`` of the typical result. Factors of 16 and 8
    cover chained steps and the worst of many elements; 64 roundoffs of float32 cover the
    GPU's fast exponential (2 + 1.16 |x| units in the last place) and division. A position
    computed from an index ``i`` in float32 errs by ``i`` roundoffs, what is interpolated there
    by as much of the typical magnitude. More than a tenth of that is never accepted.
    Programs without floats must agree exactly, and so must operators of ours whose results are
    integers: they are defined to the last bit.
    """
    if reference_of(workload) and not any(is_float(spec.dtype) for spec in workload.outputs):
        return Tolerance(rtol=0.0, atol=0.0)
    floats = [spec.dtype for spec in (*workload.inputs, *workload.outputs) if is_float(spec.dtype)]
    if not floats:
        return Tolerance(rtol=0.0, atol=0.0)
    stored = max(_roundoff(dtype) for dtype in floats)
    summed = sum(
        _roundoff(reduction.dtype) * np.sqrt(reduction.n_terms)
        for reduction in reductions_of(function_of(workload))
        if is_float(reduction.dtype)
    )
    placed = UNIT_ROUNDOFF["float32"] * largest_coordinate(workload.program)
    rtol = max(16.0 * stored, FAST_MATH_ROUNDOFFS * UNIT_ROUNDOFF["float32"])
    return Tolerance(rtol=rtol, atol=min(16.0 * (stored + placed) + 8.0 * float(summed), 0.1))


def _roundoff(dtype: str) -> float:
    return UNIT_ROUNDOFF.get(dtype, 2.0**-4)


def compare(
    actual: np.ndarray,
    reference: np.ndarray,
    tolerance: Tolerance,
    *,
    scale: float | None = None,
    suspects: np.ndarray | None = None,
    locate: Callable[[int], tuple[int, ...]] | None = None,
) -> str | None:
    """``None`` if every element is right, else one sentence about the worst.

    Args:
        actual: Output of a kernel.
        reference: The same output in float64; may hold infinities and NaN, which the
            kernel must then give at the same places.
        tolerance: What is still right.
        scale: :func:`scale_of` the reference, if known.
        suspects: Flat indices of the elements that may be wrong; all if ``None``.
        locate: Where in the output a flat index is, if ``actual`` is a sample of it.
    """
    if actual.shape != reference.shape:
        return f"shape is {actual.shape}, expected {reference.shape}"
    if scale is None:
        scale = scale_of(reference)
    if suspects is None:
        suspects = np.arange(actual.size)
    got = actual.reshape(-1)[suspects].astype(np.float64)
    wanted = reference.reshape(-1)[suspects].astype(np.float64)
    n_nan = int(np.count_nonzero(np.isnan(got) & ~np.isnan(wanted)))
    excess = _excess(got, wanted, tolerance, scale)
    n_wrong = int(np.count_nonzero(excess > 0))
    if n_wrong == 0:
        return None
    worst = int(np.argmax(excess))
    index = int(suspects[worst])
    place = locate(index) if locate else tuple(map(int, np.unravel_index(index, actual.shape)))
    return (
        f"{n_wrong} of {actual.size} elements are wrong, {n_nan} of them NaN; worst at {place}: "
        f"{got[worst]:.6g}, expected {wanted[worst]:.6g} "
        f"(rtol {tolerance.rtol:.2g}, atol {tolerance.atol:.2g} of the mean magnitude)"
    )


def scale_of(reference: np.ndarray) -> float:
    """Root mean square of the finite elements, 0 if there are none."""
    values = reference.astype(np.float64, copy=False).reshape(-1)
    finite = values if np.isfinite(values).all() else values[np.isfinite(values)]
    return float(np.sqrt(np.dot(finite, finite) / finite.size)) if finite.size else 0.0


def allowed_error(reference: np.ndarray, tolerance: Tolerance, scale: float) -> np.ndarray:
    """How far each element may be from its reference; meaningless where that is not finite."""
    finite = np.isfinite(reference)
    return np.asarray(
        tolerance.atol * scale + tolerance.rtol * np.abs(np.where(finite, reference, 0.0))
    )


def _excess(got: np.ndarray, wanted: np.ndarray, tolerance: Tolerance, scale: float) -> np.ndarray:
    """By how much each error exceeds what is allowed; positive means wrong."""
    finite = np.isfinite(wanted)
    allowed = allowed_error(wanted, tolerance, scale)
    error = np.abs(np.where(finite, got - np.where(finite, wanted, 0.0), 0.0))
    excess = np.where(np.isnan(error), np.inf, error - allowed)
    same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    return np.where(finite, excess, np.where(same, 0.0, np.inf))

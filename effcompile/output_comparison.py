"""Whether two runs of the same model agree: artifact against PyTorch or ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from effcompile.dtypes import name_of

_TOLERANCES = {
    # Largest difference as a share of the reference's root mean square. A network of a hundred
    # layers loses about three of float32's seven digits to another order of summation, and
    # the machine's rounding step times ten for the short formats.
    "float64": 1e-6,
    "float32": 1e-3,
    "float16": 1e-2,
    "bfloat16": 8e-2,
}
_EIGHT_BIT_FLOAT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputComparison:
    """One output against its reference.

    Attributes:
        name: Name of the output.
        max_abs_error: Largest difference; ``None`` if the shapes differ or values are not finite.
        relative_error: That, over the root mean square of the reference.
        tolerance: Largest relative error that is accepted; 0 for integers and bool.
        is_equal: The verdict.
        reason: One sentence when the verdict is no.
    """

    name: str
    max_abs_error: float | None
    relative_error: float | None
    tolerance: float
    is_equal: bool
    reason: str = ""

    def text(self) -> str:
        """One line for people."""
        if self.relative_error is None or not self.is_equal:
            return f"{self.name}: differs: {self.reason}"
        return (
            f"{self.name}: equal, relative error {self.relative_error:.2g} "
            f"(tolerance {self.tolerance:.2g})"
        )


def compare_outputs(
    names: Sequence[str],
    found: Sequence[npt.NDArray[Any]],
    reference: Sequence[npt.NDArray[Any]],
) -> list[OutputComparison]:
    """Compare output by output.

    Args:
        names: One per output.
        found: What the artifact returned.
        reference: What it should be, in the same or a wider dtype.

    Raises:
        ValueError: The three differ in length.
    """
    return [
        _compare(name, np.asarray(left), np.asarray(right))
        for name, left, right in zip(names, found, reference, strict=True)
    ]


def _compare(name: str, found: npt.NDArray[Any], reference: npt.NDArray[Any]) -> OutputComparison:
    tolerance = _tolerance(name_of(found.dtype))
    if found.shape != reference.shape:
        reason = f"shape {list(found.shape)}, expected {list(reference.shape)}"
        return _refused(name, tolerance, reason)
    left, right = found.astype(np.float64), reference.astype(np.float64)
    finite = np.isfinite(right)
    if not np.array_equal(left[~finite], right[~finite], equal_nan=True):
        return _refused(name, tolerance, "infinite or NaN values differ from the reference's")
    if n_bad := int(np.count_nonzero(~np.isfinite(left[finite]))):
        return _refused(name, tolerance, f"{n_bad} values are not finite, the reference's are")
    difference = np.abs(np.where(finite, left, 0.0) - np.where(finite, right, 0.0))
    worst = float(difference.max(initial=0.0))
    scale = float(np.sqrt(np.mean(np.square(right[finite])))) if finite.any() else 0.0
    relative = worst / scale if scale > 0 else worst
    is_equal = relative <= tolerance
    reason = "" if is_equal else _worst(difference, left, right, relative, tolerance)
    return OutputComparison(
        name=name,
        max_abs_error=worst,
        relative_error=relative,
        tolerance=tolerance,
        is_equal=is_equal,
        reason=reason,
    )


def _tolerance(dtype: str) -> float:
    if dtype.startswith("float8"):
        return _EIGHT_BIT_FLOAT
    return _TOLERANCES.get(dtype, 0.0)


def _refused(name: str, tolerance: float, reason: str) -> OutputComparison:
    return OutputComparison(
        name=name,
        max_abs_error=None,
        relative_error=None,
        tolerance=tolerance,
        is_equal=False,
        reason=reason,
    )


def _worst(
    difference: npt.NDArray[np.float64],
    left: npt.NDArray[np.float64],
    right: npt.NDArray[np.float64],
    relative: float,
    tolerance: float,
) -> str:
    index = np.unravel_index(int(np.argmax(difference)), difference.shape)
    place = [int(axis) for axis in index]
    return (
        f"relative error {relative:.2g} exceeds {tolerance:.2g}; worst at {place}: "
        f"{left[index]:.6g}, expected {right[index]:.6g}"
    )

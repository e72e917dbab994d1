"""What the row norm family needs to know of a workload."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from schedules.row_space import ELEMENT_BYTES
from schedules.workload import Workload

LAYER_NORM, RMS_NORM = "layer_norm", "rms_norm"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowNormProblem:
    """Rows normalised over the last axis.

    Attributes:
        shape: Of input and output; all axes but the last are rows.
        dtype: Element type of both; arithmetic is float32.
        weight_dtype: Of weight and bias.
        centred: Whether the mean is taken away (layer norm).
        epsilon: Added to the mean square.
        has_bias: Whether a bias is added.
        groups: Groups of consecutive rows with a scale and a shift each; 0 without.
        residual_rows: Rows that are added first, again and again; 0 without.
        keeps_sum: Whether the sum is the second output.
        names: Buffers, inputs first, in the order of the workload.
    """

    shape: tuple[int, ...]
    dtype: str
    weight_dtype: str
    centred: bool
    epsilon: float
    has_bias: bool
    groups: int
    residual_rows: int = 0
    keeps_sum: bool = False
    names: tuple[str, ...]

    @property
    def width(self) -> int:
        """Length of a row."""
        return self.shape[-1]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return prod(self.shape[:-1])

    @property
    def element_bytes(self) -> int:
        """Bytes of one element of a row."""
        return ELEMENT_BYTES[self.dtype]


def row_norm_problem(workload: Workload) -> RowNormProblem | None:
    """The problem behind a workload, ``None`` if the family does not cover it."""
    if workload.op not in (LAYER_NORM, RMS_NORM):
        return None
    x, *rest = workload.inputs
    residual = rest.pop(0) if workload.attrs.get("residual") else None
    weight, *rest = rest
    has_bias = bool(workload.attrs.get("bias", False))
    vectors, modulation = rest[: int(has_bias)], rest[int(has_bias) :]
    covered = (
        x.dtype in ELEMENT_BYTES
        and weight.dtype in ELEMENT_BYTES
        and min(x.shape, default=0) > 0
        and all(one.shape == x.shape and one.dtype == x.dtype for one in workload.outputs)
        and len(workload.outputs) <= (1 if residual is None else 2)
        and (residual is None or residual.dtype == x.dtype)
        and all(one.dtype == weight.dtype and one.shape == weight.shape for one in vectors)
        and weight.shape == x.shape[-1:]
        and len(modulation) in (0, 2)
        and all(one.dtype == x.dtype and one.shape[-1] == x.shape[-1] for one in modulation)
    )
    if not covered:
        return None
    return RowNormProblem(
        shape=x.shape,
        dtype=x.dtype,
        weight_dtype=weight.dtype,
        centred=workload.op == LAYER_NORM,
        epsilon=float(workload.attrs["epsilon"]),
        has_bias=has_bias,
        groups=modulation[0].shape[0] if modulation else 0,
        residual_rows=prod(residual.shape[:-1]) if residual else 0,
        keeps_sum=len(workload.outputs) == 2,
        names=tuple(spec.name for spec in (*workload.inputs, *workload.outputs)),
    )

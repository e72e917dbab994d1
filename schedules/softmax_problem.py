"""What both softmax programs need to know of a workload."""

from __future__ import annotations

from dataclasses import dataclass
from math import e as euler
from math import log2, prod

from schedules.workload import Workload

LOWEST = -3.4028234663852886e38
LOG2_E = log2(euler)
DTYPES = ("float32", "float16", "bfloat16")
ELEMENT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
LONGEST_ROW = 262144


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxProblem:
    """Softmax, or its logarithm, over the last axis.

    Attributes:
        shape: Shape of input and output; all axes but the last are rows.
        dtype: Element type of both; arithmetic is float32.
        input_name: Argument name.
        output_name: Argument name.
        scale: Positive factor on the input.
        log: Whether the logarithm is wanted.
    """

    shape: tuple[int, ...]
    dtype: str
    input_name: str
    output_name: str
    scale: float
    log: bool

    @property
    def n(self) -> int:
        """Length of a row."""
        return self.shape[-1]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return prod(self.shape[:-1])

    @property
    def element_bytes(self) -> int:
        """Bytes of one element."""
        return ELEMENT_BYTES[self.dtype]


def softmax_problem(workload: Workload) -> SoftmaxProblem | None:
    """The problem behind a workload, ``None`` if the family does not cover it."""
    if workload.op != "softmax" or len(workload.inputs) != 1 or len(workload.outputs) != 1:
        return None
    (source,), (result,) = workload.inputs, workload.outputs
    rank = len(source.shape)
    scale = float(workload.attrs.get("scale", 1.0))
    covered = (
        rank > 0
        and int(workload.attrs.get("axis", -1)) in (-1, rank - 1)
        and source.shape == result.shape
        and source.dtype == result.dtype
        and source.dtype in DTYPES
        and min(source.shape) > 0
        and source.shape[-1] <= LONGEST_ROW
        and scale > 0.0
    )
    if not covered:
        return None
    return SoftmaxProblem(
        shape=source.shape,
        dtype=source.dtype,
        input_name=source.name,
        output_name=result.name,
        scale=scale,
        log=bool(workload.attrs.get("log", False)),
    )

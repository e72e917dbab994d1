"""Softmax in integers alone: what the operator means, and what its programs need to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from schedules.dtypes import ELEMENT_BYTES, FLOATS
from schedules.integer_exponential import IntegerExponential, integer_exponential
from schedules.workload import Attribute, Workload

OP = "integer_softmax"
CODES, SHARES, DEFERRED = "codes", "shares", "deferred"
INTEGERS = ("int8", "int32")
MOST_SUM_BITS = 40
MOST_OUTPUT_BITS = 16

DEFAULTS: Mapping[str, Attribute] = {
    "form": "polynomial",
    "score_bits": 6,
    "clip": 7.0,
    "octave": 0,
    "guard_bits": 0,
    "clip_to_zero": False,
    "table_bits": 12,
    "sum_bits": 16,
    "output_bits": 16,
    "output": CODES,
}
"""Attributes and what they are unless given; the best trade known for language models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """What follows the exponentials.

    Attributes:
        sum_bits: Sums saturate at ``2**sum_bits - 1``.
        output_bits: Shares are floors of ``2**output_bits`` parts, at most one part less than 1.
        output: ``codes`` (parts), ``shares`` (parts as fractions, in floating point) or
            ``deferred`` (exponentials and their sum, not divided).
    """

    sum_bits: int
    output_bits: int
    output: str

    @property
    def code_dtype(self) -> str:
        """The narrowest that holds the parts."""
        return "uint8" if self.output_bits <= 8 else "uint16"


def widths_of(attrs: Mapping[str, Attribute]) -> Widths:
    """The widths that an operator's attributes describe.

    Raises:
        ValueError: One is out of range.
    """
    made = Widths(
        sum_bits=int(attrs["sum_bits"]),
        output_bits=int(attrs["output_bits"]),
        output=str(attrs["output"]),
    )
    if not 2 <= made.sum_bits <= MOST_SUM_BITS:
        raise ValueError(f"sum_bits is {made.sum_bits}, expected 2 to {MOST_SUM_BITS}")
    if not 1 <= made.output_bits <= MOST_OUTPUT_BITS:
        raise ValueError(f"output_bits is {made.output_bits}, expected 1 to {MOST_OUTPUT_BITS}")
    if made.output not in (CODES, SHARES, DEFERRED):
        raise ValueError(f"output is {made.output!r}, expected {CODES}, {SHARES} or {DEFERRED}")
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerSoftmaxProblem:
    """Rows of scores that become shares.

    Attributes:
        shape: Of the scores; all axes but the last are rows.
        dtype: Of the scores: floating point in nats, or integer in steps.
        result_dtype: Of the first output.
        exponential: The integer exponential.
        widths: Of sum and shares.
        names: Buffers, the input first.
    """

    shape: tuple[int, ...]
    dtype: str
    result_dtype: str
    exponential: IntegerExponential
    widths: Widths
    names: tuple[str, ...]

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
        """Bytes of a score."""
        return ELEMENT_BYTES[self.dtype]

    @property
    def result_bytes(self) -> int:
        """Bytes of an element of the first output."""
        return ELEMENT_BYTES[self.result_dtype]


def integer_softmax_problem(workload: Workload) -> IntegerSoftmaxProblem | None:
    """The problem behind a workload, ``None`` if the family does not cover it."""
    if workload.op != OP:
        return None
    (source,), (result, *_) = workload.inputs, workload.outputs
    if source.dtype not in (*FLOATS, *INTEGERS) or min(source.shape, default=0) <= 0:
        return None
    return IntegerSoftmaxProblem(
        shape=source.shape,
        dtype=source.dtype,
        result_dtype=result.dtype,
        exponential=integer_exponential(workload.attrs),
        widths=widths_of(workload.attrs),
        names=tuple(spec.name for spec in (*workload.inputs, *workload.outputs)),
    )

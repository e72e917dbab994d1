"""What both softmax programs need to know of a workload."""

from __future__ import annotations

from dataclasses import dataclass
from math import e as euler
from math import log2, prod
from typing import Any

from schedules.dtypes import ELEMENT_BYTES, FLOATS
from schedules.workload import TensorSpec, Workload

LOWEST = -3.4028234663852886e38
LOG2_E = log2(euler)
LONGEST_ROW = 262144


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxProblem:
    """Softmax of ``scale * x``, plus a mask if there is one, or its logarithm, over the last axis.

    Attributes:
        source: The input; all axes but the last are rows. Arithmetic is float32.
        mask: What is added after scaling, repeated along missing axes and axes of extent 1, but
            not the last; ``None`` if nothing is.
        result: The output, of the input's shape and dtype.
        scale: Positive factor on the input.
        log: Whether the logarithm is wanted.
    """

    source: TensorSpec
    mask: TensorSpec | None
    result: TensorSpec
    scale: float
    log: bool

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """Arguments of the program, in order."""
        between = (self.mask,) if self.mask else ()
        return (self.source, *between, self.result)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of input and output."""
        return self.source.shape

    @property
    def dtype(self) -> str:
        """Of input and output."""
        return self.source.dtype

    @property
    def exponent_scale(self) -> float:
        """Factor on differences of what is compared, which a mask makes scaled already."""
        return 1.0 if self.mask else self.scale

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
    if workload.op != "softmax" or len(workload.inputs) > 2 or len(workload.outputs) != 1:
        return None
    (source, *masks), (result,) = workload.inputs, workload.outputs
    rank = len(source.shape)
    scale = float(workload.attrs.get("scale", 1.0))
    covered = (
        rank > 0
        and int(workload.attrs.get("axis", -1)) in (-1, rank - 1)
        and source.shape == result.shape
        and source.dtype == result.dtype
        and source.dtype in FLOATS
        and min(source.shape) > 0
        and source.shape[-1] <= LONGEST_ROW
        and scale > 0.0
        and all(_is_row_mask(mask, source) for mask in masks)
    )
    if not covered:
        return None
    return SoftmaxProblem(
        source=source,
        mask=masks[0] if masks else None,
        result=result,
        scale=scale,
        log=bool(workload.attrs.get("log", False)),
    )


def _is_row_mask(mask: TensorSpec, source: TensorSpec) -> bool:
    """Whether a mask has whole rows, repeated along other axes if at all."""
    trailing = source.shape[len(source.shape) - len(mask.shape) :]
    pairs = zip(mask.shape[:-1], trailing[:-1], strict=True)
    return (
        mask.dtype in FLOATS
        and 0 < len(mask.shape) <= len(source.shape)
        and mask.shape[-1] == source.shape[-1]
        and all(own in (1, whole) for own, whole in pairs)
    )


def place_in(tensor: Any, shape: tuple[int, ...], row: Any, column: Any) -> tuple[Any, ...]:
    """Indices of an element of a tensor that is repeated over a shape's axes.

    Args:
        tensor: A TIR buffer; along axes of extent 1 it is repeated, and it may lack the first ones.
        shape: Of the whole.
        row: Number of the element's row in the whole.
        column: Of the element in its row.
    """
    position = [column]
    for extent in reversed(shape[:-1]):
        position.insert(0, row % extent)
        row = row // extent
    own = [int(extent) for extent in tensor.shape]
    n_missing = len(position) - len(own)
    triples = zip(position[n_missing:], own, shape[n_missing:], strict=True)
    return tuple(place if size == full else 0 for place, size, full in triples)

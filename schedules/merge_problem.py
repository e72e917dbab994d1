"""What the merge family needs to know of a workload: which rows become which, and how wide."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from schedules.row_space import ELEMENT_BYTES
from schedules.workload import TensorSpec, Workload

MOST_ELEMENTS = 2**31 - 1

SEGMENT_MEAN = "segment_mean"
GATHER_ROWS = "gather_rows"
BLEND_ROWS = "blend_rows"
RENOISE_ROWS = "renoise_rows"
SELECT_ROWS = "select_rows"
FRAME_COSINE = "frame_cosine"
COMBINE_PARTIALS = "combine_partials"

MIXTURES = (GATHER_ROWS, BLEND_ROWS, RENOISE_ROWS, SELECT_ROWS)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeProblem:
    """Rows of equal width that become other rows.

    Attributes:
        op: One of the names above.
        dtype: Element type of the rows; sums are float32.
        result_dtype: Element type of the resulting rows (of the cosines: float32).
        outer: Independent repetitions.
        rows: Source rows of one repetition.
        other: Rows of the second source; 0 without one.
        groups: Resulting rows of one repetition.
        width: Elements of a row.
        longest: Most rows that a segment counts.
        listed: Entries of the list of rows; without a list, ``rows``.
        is_listed: Whether the rows of segments, or the row before each row, come from a list.
        places: Rows of one frame.
        splits: Partial results of every row.
        names: Buffers, inputs first, in the order of the workload.
    """

    op: str
    dtype: str
    result_dtype: str
    outer: int
    rows: int
    groups: int
    width: int
    other: int = 0
    longest: int = 1
    listed: int = 0
    is_listed: bool = False
    places: int = 0
    splits: int = 1
    names: tuple[str, ...]

    @property
    def element_bytes(self) -> int:
        """Bytes of one element of a source row."""
        return ELEMENT_BYTES[self.dtype]

    @property
    def n_results(self) -> int:
        """Resulting rows of all repetitions."""
        return self.outer * self.groups


def merge_problem(workload: Workload) -> MergeProblem | None:
    """The problem behind a workload, ``None`` if the family does not cover it."""
    made = _MAKERS.get(workload.op)
    if made is None:
        return None
    specs = (*workload.inputs, *workload.outputs)
    rows = workload.inputs[0]
    covered = (
        rows.dtype in ELEMENT_BYTES
        and all(min(spec.shape, default=1) > 0 for spec in specs)
        and all(prod(spec.shape) <= MOST_ELEMENTS for spec in specs)
    )
    return made(workload, tuple(spec.name for spec in specs)) if covered else None


def _segment_mean(workload: Workload, names: tuple[str, ...]) -> MergeProblem:
    x, *rest = workload.inputs
    (result,) = workload.outputs
    is_listed = len(rest) == 2
    outer, rows, width = x.shape
    return MergeProblem(
        op=workload.op,
        dtype=x.dtype,
        result_dtype=result.dtype,
        outer=outer,
        rows=rows,
        groups=result.shape[1],
        width=width,
        longest=int(workload.attrs["longest"]),
        listed=rest[0].shape[0] if is_listed else rows,
        is_listed=is_listed,
        names=names,
    )


def _mixture(workload: Workload, names: tuple[str, ...]) -> MergeProblem:
    x = workload.inputs[0]
    has_other = workload.op in (RENOISE_ROWS, SELECT_ROWS)
    other: TensorSpec | None = workload.inputs[1] if has_other else None
    (result,) = workload.outputs
    return MergeProblem(
        op=workload.op,
        dtype=x.dtype,
        result_dtype=result.dtype,
        outer=x.shape[0],
        rows=x.shape[1],
        other=other.shape[1] if other else 0,
        groups=result.shape[1],
        width=x.shape[2],
        names=names,
    )


def _frame_cosine(workload: Workload, names: tuple[str, ...]) -> MergeProblem:
    x, *previous = workload.inputs
    return MergeProblem(
        op=workload.op,
        dtype=x.dtype,
        result_dtype=workload.outputs[0].dtype,
        outer=1,
        rows=x.shape[0],
        groups=x.shape[0],
        width=x.shape[1],
        is_listed=bool(previous),
        places=0 if previous else int(workload.attrs["places"]),
        names=names,
    )


def _combine_partials(workload: Workload, names: tuple[str, ...]) -> MergeProblem | None:
    parts, _ = workload.inputs
    result, _ = workload.outputs
    splits, rows, width = parts.shape
    if ELEMENT_BYTES.get(result.dtype, 8) > ELEMENT_BYTES[parts.dtype]:
        return None
    return MergeProblem(
        op=workload.op,
        dtype=parts.dtype,
        result_dtype=result.dtype,
        outer=1,
        rows=rows,
        groups=rows,
        width=width,
        splits=splits,
        names=names,
    )


_MAKERS = {
    SEGMENT_MEAN: _segment_mean,
    FRAME_COSINE: _frame_cosine,
    COMBINE_PARTIALS: _combine_partials,
    **dict.fromkeys(MIXTURES, _mixture),
}

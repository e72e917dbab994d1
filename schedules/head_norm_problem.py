"""Recognises norms of rows with everything elementwise behind them, as one program.

Attention of today's models norms every head of its queries and keys, turns it by its position and
puts heads before tokens; joint attention also puts text behind image tokens, each with a norm of
its own. Row by row, all of it is one pass::

    row i of the output = ending(i, norm(row of one source that follows from i))

The front end leaves such a program as sums, one norm block per source and one last block, which may
be a norm: then only what stands in front of it is part of the pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd, prod
from typing import Any

from schedules import _tvm
from schedules.analysis import leaf_blocks, new_schedule
from schedules.elementwise_problem import (
    INDEX_DTYPES,
    MOST_ELEMENTS,
    ElementwiseProblem,
    writes_in_order,
)
from schedules.head_norm_rows import RowRead, RowReads
from schedules.nest_parts import NotCovered, require, shape_of
from schedules.product_reading import is_reduction
from schedules.row_space import ELEMENT_BYTES
from schedules.tir_parts import depends_on, loads_of, place_of, with_loads, with_values
from schedules.tir_text import NotTranslated
from schedules.workload import TensorSpec, Workload

HEAD_NORM = "head_norm"
ROW = "row"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """Rows of one input that are normalised.

    Attributes:
        start: CUDA text of the first element's address, of the output's axes and of inputs
            ``p0``, ``p1``, ...
        guard: CUDA text, true where a row is this source's.
        vectors: Weight and bias, or the weight alone, by their place among the inputs.
        aligned: Every row starts at a multiple of so many elements.
    """

    start: str
    guard: str
    vectors: tuple[int, ...]
    aligned: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeadNormProblem:
    """Rows of the output from normalised rows.

    Attributes:
        ending: The output, one row along its last axis, from the workload's inputs and the input
            :data:`ROW`, which is the source's row after the norm.
        sources: Where rows come from; no two claim the same row.
        dtype: Of the sources and of what norms give; arithmetic is float32.
        weight_dtype: Of weights and biases.
        centred: Whether the mean is taken away (layer norm).
        epsilon: Added to the mean square.
        names: Buffers, inputs first, in the order of the workload.
    """

    ending: ElementwiseProblem
    sources: tuple[Source, ...]
    dtype: str
    weight_dtype: str
    centred: bool
    epsilon: float
    names: tuple[str, ...]

    @property
    def width(self) -> int:
        """Length of a row."""
        return self.ending.shape[-1]

    @property
    def n_rows(self) -> int:
        """Rows of the output."""
        return prod(self.ending.shape[:-1])

    @property
    def element_bytes(self) -> int:
        """Bytes of the larger element, of sources or output."""
        return max(ELEMENT_BYTES[self.dtype], self.ending.element_bytes)


def head_norm_problem(workload: Workload) -> HeadNormProblem | None:
    """The problem behind a workload, ``None`` if it is something else."""
    if workload.op != HEAD_NORM or len(workload.outputs) != 1:
        return None
    known = (*ELEMENT_BYTES, *INDEX_DTYPES)
    specs = (*workload.inputs, *workload.outputs)
    fits = [0 < prod(one.shape) <= MOST_ELEMENTS and one.dtype in known for one in specs]
    try:
        return _recognised(workload) if all(fits) else None
    except (NotCovered, NotTranslated):
        return None


@lru_cache(maxsize=64)
def _blocks(program: str) -> list[Any]:
    schedule = new_schedule(_tvm.load().ir.load_json(program))
    return [schedule.get(block) for block in leaf_blocks(schedule)]


def _recognised(workload: Workload) -> HeadNormProblem:
    *before, last = _blocks(workload.program)
    norms = [_Norm(block) for block in before if not is_reduction(block)]
    require(not is_reduction(last))
    value = last.body.value
    if not norms:
        norms = [_Norm(last)]
        value = last.body.buffer[tuple(last.body.indices)]
    require(len({one.kind for one in norms}) == 1)
    whole = _ending(workload, last, value, norms[0].width)
    rows = RowReads(whole.axes, whole.shape, whole.names)
    reads = rows.of(whole.expression, [one.buffer for one in norms])
    return HeadNormProblem(
        ending=_of_row(whole, norms),
        sources=tuple(one.source(read, rows) for one, read in zip(norms, reads, strict=True)),
        dtype=norms[0].dtype,
        weight_dtype=norms[0].weight_dtype,
        centred=bool(workload.attrs["centred"]),
        epsilon=float(workload.attrs["epsilon"]),
        names=tuple(spec.name for spec in (*workload.inputs, *workload.outputs)),
    )


def _ending(workload: Workload, block: Any, expression: Any, width: int) -> ElementwiseProblem:
    """A value of the last block, one row along the last axis: heads side by side get an axis."""
    (result,) = workload.outputs
    require(result.dtype in ELEMENT_BYTES and writes_in_order(block, result))
    require(result.shape[-1] % width == 0)
    axes, shape = [axis.var for axis in block.iter_vars], list(result.shape)
    if shape[-1] > width:
        whole = axes.pop()
        axes += [_tvm.load().tirx.Var(name, whole.ty.dtype) for name in ("head", "feature")]
        shape[-1:] = [shape[-1] // width, width]
        expression = with_values(expression, {whole: axes[-2] * width + axes[-1]})
    return ElementwiseProblem(
        shape=tuple(shape),
        dtype=result.dtype,
        axes=tuple(axes),
        expression=expression,
        inputs=workload.inputs,
        names=tuple(spec.name for spec in (*workload.inputs, result)),
    )


def _of_row(whole: ElementwiseProblem, norms: Sequence[_Norm]) -> ElementwiseProblem:
    """The ending with elements of :data:`ROW` in the place of what the norms have made."""
    width, dtype = norms[0].width, norms[0].dtype
    row = _tvm.load().tirx.decl_buffer((width,), dtype, name=ROW)

    def change(load: Any) -> Any:
        is_normal = any(load.source.same_as(one.buffer) for one in norms)
        return row[load.indices[-1]] if is_normal else load

    *given, result = whole.names
    return replace(
        whole,
        expression=with_loads(whole.expression, change),
        inputs=(*whole.inputs, TensorSpec(name=ROW, shape=(width,), dtype=dtype)),
        names=(*given, ROW, result),
    )


class _Norm:
    """The block that finishes a norm: what it reads."""

    def __init__(self, block: Any) -> None:
        store = block.body
        require(type(store).__name__ == "BufferStore")
        self.axes = [axis.var for axis in block.iter_vars]
        self.buffer, self.shape = store.buffer, shape_of(store.buffer)
        require(len(self.axes) == len(self.shape))
        self.width, self.dtype = self.shape[-1], str(store.buffer.dtype)
        self._divide(loads_of(store.value))

    def _divide(self, loads: Sequence[Any]) -> None:
        """Loads are of sums by row, of vectors by feature, and of ``x`` at this very element."""
        last = self.axes[-1]
        of_element = [one for one in loads if depends_on(one, last)]
        vectors = [one for one in of_element if [*map(last.same_as, one.indices)] == [True]]
        others = [one for one in of_element if one not in vectors]
        require(len(others) == 1 and len(vectors) in (1, 2))
        (self.x,) = others
        self.vectors = tuple(str(one.source.name) for one in vectors)
        kinds = {str(one.source.dtype) for one in vectors}
        require(len(kinds) == 1 and kinds <= set(ELEMENT_BYTES))
        require(all(shape_of(one.source) == (self.width,) for one in vectors))
        require(self.dtype in ELEMENT_BYTES and str(self.x.source.dtype) == self.dtype)
        (self.weight_dtype,) = kinds

    @property
    def kind(self) -> tuple[int, str, str, int]:
        """What the norms of one program have alike."""
        return self.width, self.dtype, self.weight_dtype, len(self.vectors)

    def source(self, read: RowRead, rows: RowReads) -> Source:
        """Its rows by the axes of the output."""
        start, aligned = self._start()
        of_output = dict(zip(self.axes, read.row, strict=False))
        names = rows.names
        with rows.under(read.guards):
            place = rows.text(with_values(start, of_output))
        return Source(
            start=f"p{names.index(str(self.x.source.name))} + {place}",
            guard=" && ".join(map(rows.text, read.guards)) or "true",
            vectors=tuple(map(names.index, self.vectors)),
            aligned=aligned,
        )

    def _start(self) -> tuple[Any, int]:
        """The first element of a row by the norm's own axes, and its alignment."""
        own = RowReads(self.axes, self.shape).analyzer
        last, place = self.axes[-1], place_of(self.x)
        start = own.simplify(with_values(place, {last: _tvm.load().tirx.const(0, last.ty.dtype)}))
        require(own.can_prove(place == start + last.astype("int64")))
        known = own.modular_set(start)
        return start, gcd(int(known.coeff), int(known.base))

"""Programs cut down to some rows of their outputs.

    for i, j: a[i, j] = f(x[i, j])            for r, j: i = rows[r]: a[i, j] = f(x[i, j])
    for i, k: s[i] += a[i, k]          ->     for r, k: i = rows[r]: s[i] += a[i, k]
    for i, j: y[i, j] = a[i, j] * s[i]        for r, j: i = rows[r]: y[i, j] = a[i, j] * s[i]

Buffers keep their shapes; only what the chosen rows need is computed. A nest whose result is not
by rows of the outputs is computed whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from schedules import _tvm
from schedules.analysis import SPATIAL, constant_extent
from schedules.programs import normalised

ROWS_DTYPE = "int64"
# The float64 elements of a page of memory, which chosen rows seldom share.
LEAST_STEPS = 512
# Of some numbers these have no value, or none that is finite.
PARTIAL = frozenset(
    ("log", "log2", "log10", "log1p", "sqrt", "rsqrt", "pow", "tan", "asin", "acos", "atanh")
)
EXTERNAL = frozenset(("call_extern", "call_pure_extern"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProgram:
    """A program whose outputs are computed row by row.

    Attributes:
        nests: In order.
        buffers: Parameters of the program, then what lies between its nests.
        read_by_row: Places among the inputs of those of which a row needs the same row alone.
    """

    nests: Sequence[_Nest]
    buffers: Sequence[Any]
    read_by_row: frozenset[int]

    @staticmethod
    def of(function: Any, *, n_outputs: int) -> RowProgram | None:
        """A function as such a program.

        ``None`` where rows depend on each other, where a nest is more than loops around one
        element, and where a row may hold what is no number: nobody would know of it.

        Args:
            function: Its last parameters are outputs.
            n_outputs: How many; all of the same extents but for the last.
        """
        parameters = list(function.params)
        inputs, outputs = parameters[:-n_outputs], parameters[-n_outputs:]
        leading = [_extents(one)[:-1] for one in outputs]
        if not leading[0] or any(one != leading[0] for one in leading):
            return None
        found = [_Nest.of(statement, leading[0]) for statement in nests_of(function)]
        nests = [nest for nest in found if nest is not None]
        made_by_row = [nest.result for nest in nests if nest.rows]
        if (
            not nests
            or len(nests) < len(found)
            or not all(_among(one, made_by_row) for one in outputs)
            or any(_among(nest.result, inputs) for nest in nests)
            or not all(nest.is_separate(made_by_row, leading[0]) for nest in nests)
        ):
            return None
        by_row = (
            place
            for place, one in enumerate(inputs)
            if _extents(one)[: len(leading[0])] == leading[0]
            and all(nest.needs_row(one) for nest in nests)
        )
        return RowProgram(
            nests=nests,
            buffers=[*parameters, *function.body.block.alloc_buffers],
            read_by_row=frozenset(by_row),
        )

    @property
    def n_steps_per_row(self) -> int:
        """Elements computed for one row, over all nests; of short rows, those of a page."""
        return sum(max(nest.n_steps_per_row, LEAST_STEPS) for nest in self.nests if nest.rows)

    def cut(self, n_rows: int) -> Any:
        """A function of all buffers and, last, the rows to compute.

        The rows are an array of shape (axes of the rows, ``n_rows``): their place on every axis.
        """
        tvm = _tvm.load()
        from tvm.s_tir import SBlock, SBlockRealize

        n_axes = max(len(nest.rows) for nest in self.nests)
        rows = tvm.tirx.decl_buffer((n_axes, n_rows), ROWS_DTYPE, name="rows")
        cut = [nest.cut(rows, n_rows) for nest in self.nests]
        body = tvm.tirx.SeqStmt(cut) if len(cut) > 1 else cut[0]
        root = SBlockRealize([], True, SBlock([], [], [], "root", body))
        function = tvm.tirx.PrimFunc([*self.buffers, rows], root)
        return normalised(function.with_attr({"s_tir": True, "tirx.noalias": True}))


def nests_of(function: Any) -> list[Any]:
    """The statements of a program one after the other; none if it is not made of loop nests."""
    tirx = _tvm.load().tirx
    root = function.body.block
    if str(root.name_hint) != "root" or not isinstance(root.body, tirx.SeqStmt | tirx.For):
        return []
    return list(root.body) if isinstance(root.body, tirx.SeqStmt) else [root.body]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nest:
    """Loops around a block that computes one element, one loop per axis.

    Attributes:
        statement: All of it.
        loops: From the outermost.
        block: The block; its axes are the loops.
        rows: Axes that are the rows of the outputs, in their order; empty if it has none.
        extents: Of the axes.
    """

    statement: Any
    loops: Sequence[Any]
    block: Any
    rows: Sequence[int]
    extents: Sequence[int]

    @staticmethod
    def of(statement: Any, leading: Sequence[int]) -> _Nest | None:
        tirx = _tvm.load().tirx
        loops, inner = [], statement
        while isinstance(inner, tirx.For):
            loops.append(inner)
            inner = inner.body
        block = _plain_block(inner, loops)
        if block is None:
            return None
        extents = [constant_extent(axis.dom.extent) or 0 for axis in block.iter_vars]
        rows: Sequence[int] = ()
        if _extents(block.body.buffer)[: len(leading)] == leading:
            spatial = [int(axis.iter_type) == SPATIAL for axis in block.iter_vars]
            places = [_axis_of(one, block) for one in block.body.indices[: len(leading)]]
            rows = [place for place in places if place is not None and spatial[place]]
            if [extents[place] for place in rows] != list(leading):
                return None
        return _Nest(statement=statement, loops=loops, block=block, rows=rows, extents=extents)

    @property
    def result(self) -> Any:
        """The buffer that it fills."""
        return self.block.body.buffer

    @property
    def n_steps_per_row(self) -> int:
        """Elements it computes for one row; none if it has no rows."""
        n_rows = prod(self.extents[place] for place in self.rows)
        return prod(self.extents) // n_rows if self.rows else 0

    def needs_row(self, buffer: Any) -> bool:
        """Whether of a buffer it reads, if anything, the row that it computes."""
        return all(self._is_of_row(load) for load in self._loads() if load.source.same_as(buffer))

    def is_separate(self, made_by_row: Sequence[Any], leading: Sequence[int]) -> bool:
        """Whether it needs nothing of other rows, and has a number for every row."""
        sources = [load for load in self._loads() if _among(load.source, made_by_row)]
        if not self.rows:
            return not sources
        return all(map(self._is_of_row, sources)) and all(
            _among(load.source, made_by_row) and prod(_extents(load.source)) == prod(leading)
            for argument in _partial_arguments(self.block.body)
            for load in _loads_of(argument)
        )

    def _loads(self) -> Iterator[Any]:
        """What is read, the element that a sum is added to included."""
        for statement in (self.block.init, self.block.body):
            if statement is not None:
                yield from _loads_of(statement)

    def _is_of_row(self, load: Any) -> bool:
        variables = [self.block.iter_vars[place].var for place in self.rows]
        indices = list(load.indices)[: len(variables)]
        if not variables or len(indices) < len(variables):
            return False
        return all(map(self._are_equal, indices, variables))

    def _are_equal(self, index: Any, variable: Any) -> bool:
        if index.same_as(variable):
            return True
        _tvm.load()
        from tvm.sym import Analyzer

        analyzer = Analyzer()
        for axis in self.block.iter_vars:
            analyzer.bind(axis.var, axis.dom)
        return bool(analyzer.can_prove_equal(index, variable))

    def cut(self, rows: Any, n_rows: int) -> Any:
        """The nest for some rows, a loop over these outermost; as it is if it has none."""
        if not self.rows:
            return self.statement
        tirx = _tvm.load().tirx
        from tvm.s_tir import SBlockRealize

        chosen = tirx.Var("r", ROWS_DTYPE)
        values = [loop.loop_var for loop in self.loops]
        for axis, place in enumerate(self.rows):
            values[place] = rows[axis, chosen]
        body: Any = SBlockRealize(values, True, self.block)
        for place, loop in reversed(list(enumerate(self.loops))):
            if place not in self.rows:
                body = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)
        return tirx.For(chosen, 0, n_rows, tirx.ForKind.PARALLEL, body)


def _plain_block(node: Any, loops: Sequence[Any]) -> Any:
    """The block of a nest in which every loop is one axis and one store all there is."""
    tvm = _tvm.load()
    tirx = tvm.tirx
    if not isinstance(node, tvm.s_tir.SBlockRealize) or not loops:
        return None
    block, values = node.block, list(node.iter_values)
    stores = [block.body] if block.init is None else [block.init, block.body]
    is_plain = (
        len(values) == len(loops)
        and all(value.same_as(loop.loop_var) for value, loop in zip(values, loops, strict=True))
        and all(
            constant_extent(loop.extent) == constant_extent(axis.dom.extent)
            for loop, axis in zip(loops, block.iter_vars, strict=True)
        )
        and isinstance(node.predicate, tirx.IntImm)
        and int(node.predicate) == 1
        and not len(block.alloc_buffers)
        and not len(block.match_buffers)
        and all(isinstance(store, tirx.BufferStore) for store in stores)
    )
    return block if is_plain else None


def _axis_of(index: Any, block: Any) -> int | None:
    found = [place for place, axis in enumerate(block.iter_vars) if axis.var.same_as(index)]
    return found[0] if found else None


def _extents(buffer: Any) -> tuple[int, ...]:
    return tuple(int(extent) for extent in buffer.shape)


def _among(buffer: Any, buffers: Sequence[Any]) -> bool:
    return any(buffer.same_as(one) for one in buffers)


def _loads_of(node: Any) -> list[Any]:
    import tvm_ffi

    found: list[Any] = []
    tvm_ffi.structural_walk(node, (_tvm.load().ir.TensorLoad, found.append))
    return found


def _partial_arguments(node: Any) -> list[Any]:
    """Divisors, and arguments of functions that are not for every number."""
    import tvm_ffi

    tvm = _tvm.load()
    found: list[Any] = []

    def note(call: Any) -> None:
        name = str(getattr(call.op, "name", "call_extern")).rpartition(".")[2]
        if name in PARTIAL | EXTERNAL and not (name == "pow" and _is_natural(call.args[1])):
            found.extend(call.args)

    tvm_ffi.structural_walk(node, (tvm.ir.Call, note))
    tvm_ffi.structural_walk(node, (tvm.tirx.Div, lambda one: found.append(one.b)))
    return found


def _is_natural(exponent: Any) -> bool:
    """Whether every number has that power."""
    tirx = _tvm.load().tirx
    return (
        isinstance(exponent, tirx.FloatImm | tirx.IntImm)
        and float(exponent.value) >= 0
        and float(exponent.value).is_integer()
    )

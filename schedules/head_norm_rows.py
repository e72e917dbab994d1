"""Which row of which source every row of an output reads, and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

from schedules import _tvm
from schedules.index_text import index_text
from schedules.nest_parts import require, shape_of
from schedules.tir_parts import depends_on, place_of
from schedules.tir_text import NotTranslated, is_about_integers

PARTS = ("a", "b", "condition", "true_value", "false_value")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRead:
    """A read of one source, the same for all elements of a row.

    Attributes:
        row: Index of every axis of the source but the last, of the output's axes.
        guards: Conditions on the output's axes, all true where the source is read.
    """

    row: tuple[Any, ...]
    guards: tuple[Any, ...]


@dataclass
class RowReads:
    """Finds the reads of an expression, branch by branch.

    Args:
        axes: Variables of the output's axes; the last one runs along a row.
        shape: Their extents.
        names: Buffers in the order of the workload.
    """

    axes: Sequence[Any]
    shape: Sequence[int]
    names: Sequence[str] = ()
    guards: list[Any] = field(default_factory=list)
    found: list[tuple[Any, RowRead]] = field(default_factory=list)

    def __post_init__(self) -> None:
        tvm = _tvm.load()
        from tvm.sym import Analyzer

        self.analyzer = Analyzer()
        for axis, extent in zip(self.axes, self.shape, strict=True):
            whole = tvm.tirx.const(0, axis.ty.dtype) if extent == 1 else tvm.ir.Range(0, extent)
            self.analyzer.bind(axis, whole)

    def of(self, expression: Any, sources: Sequence[Any]) -> list[RowRead]:
        """The read of each of some buffers.

        Raises:
            NotCovered: One is not read, or rows read several rows of it, or of more than one.
        """
        self._visit(expression, sources)
        reads = [self._only([r for buffer, r in self.found if buffer.same_as(s)]) for s in sources]
        for i, one in enumerate(reads):
            for other in reads[:i]:
                require(self._never_both(one.guards, other.guards))
        return reads

    def _visit(self, expression: Any, sources: Sequence[Any]) -> None:
        kind = type(expression).__name__
        if kind == "TensorLoad":
            if any(expression.source.same_as(one) for one in sources):
                self.found.append((expression.source, self._read(expression)))
        elif kind == "Call" and str(expression.op.name).endswith("if_then_else"):
            self._choice(list(expression.args), sources)
        else:
            for part in _parts(expression):
                self._visit(part, sources)

    def _choice(self, arguments: Sequence[Any], sources: Sequence[Any]) -> None:
        """Both sides, each under its condition; only one where that is known."""
        condition, yes, no = arguments
        if not is_about_integers(condition):
            for part in arguments:
                self._visit(part, sources)
            return
        tirx = _tvm.load().tirx
        for part, holds in ((yes, condition), (no, tirx.Not(condition))):
            known = self.analyzer.simplify(holds)
            if type(known).__name__ != "IntImm":
                with self._under(known):
                    self._visit(part, sources)
            elif int(known):
                self._visit(part, sources)

    @contextmanager
    def _under(self, condition: Any) -> Iterator[None]:
        """Conditions along a row choose elements, not rows."""
        of_row = not depends_on(condition, self.axes[-1])
        self.guards += [condition] * of_row
        with self.analyzer.constraint_scope(condition):
            yield
        if of_row:
            self.guards.pop()

    def _read(self, load: Any) -> RowRead:
        row = tuple(self.analyzer.simplify(index) for index in list(load.indices)[:-1])
        require(not any(depends_on(index, self.axes[-1]) for index in row))
        return RowRead(row=row, guards=tuple(self.guards))

    def _only(self, reads: Sequence[RowRead]) -> RowRead:
        import tvm_ffi

        require(bool(reads))
        first = reads[0]
        for read in reads[1:]:
            pairs = zip((*first.row, *first.guards), (*read.row, *read.guards), strict=False)
            require(len(read.guards) == len(first.guards))
            require(all(tvm_ffi.structural_equal(one, other) for one, other in pairs))
        return first

    def _never_both(self, guards: Sequence[Any], others: Sequence[Any]) -> bool:
        tirx = _tvm.load().tirx
        with self.under(guards):
            return any(self.analyzer.can_prove(tirx.Not(other)) for other in others)

    @contextmanager
    def under(self, guards: Sequence[Any]) -> Iterator[None]:
        """What is known where some conditions hold."""
        with ExitStack() as stack:
            for guard in guards:
                stack.enter_context(self.analyzer.constraint_scope(guard))
            yield

    def text(self, expression: Any) -> str:
        """CUDA text of an integer or of a condition on integers; buffers are ``p0``, ``p1``, ...

        Raises:
            NotTranslated: It has none.
        """
        known = self.analyzer.simplify(expression)
        return index_text(known, self._element, lambda one: bool(self.analyzer.can_prove(one)))

    def _element(self, load: Any) -> str:
        name, place = str(load.source.name), self.analyzer.simplify(place_of(load))
        bounds, last = self.analyzer.const_int_bound(place), prod(shape_of(load.source)) - 1
        if (
            name not in self.names
            or not 0 <= int(bounds.min_value) <= int(bounds.max_value) <= last
        ):
            raise NotTranslated
        return f"(int)p{self.names.index(name)}[{self.text(place)}]"


def _parts(expression: Any) -> list[Any]:
    """Operands of an expression."""
    kind = type(expression).__name__
    if kind == "Cast":
        return [expression.value]
    if kind == "Call":
        return list(expression.args)
    return [getattr(expression, name) for name in PARTS if hasattr(expression, name)]

"""CUDA text of some neighbouring elements of an output, and the words of memory that they need.

Each lane of a vector is an expression of its own: with the last axis written as
``vector * q + lane``, indices and conditions become simple in ``q``, also those of halves,
neighbours in pairs and concatenated parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

from schedules import _tvm
from schedules.elementwise_problem import ElementwiseProblem
from schedules.elementwise_words import Reading, Word, gathered
from schedules.index_text import index_text
from schedules.row_space import READ_BYTES, WORD_BYTES
from schedules.tir_parts import place_of
from schedules.tir_text import NotTranslated, Read, Translator, is_about_integers

MOST_TEXT = 40_000
LAST = "q"
HOLE = "\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """A vector of the output.

    Attributes:
        words: What is read; element ``i`` of word ``w`` is called ``r<w>[i]`` in the texts.
        texts: One CUDA expression per lane.
    """

    words: tuple[Word, ...]
    texts: tuple[str, ...]


def lanes_of(problem: ElementwiseProblem, vector: int) -> Lanes | None:
    """The texts of ``vector`` neighbours, ``None`` if some part has no text.

    Args:
        problem: What to compute.
        vector: A power of two that divides the last axis.
    """
    lanes = [_Lane(problem, vector, lane) for lane in range(vector)]
    try:
        marked = [one.text() for one in lanes]
    except NotTranslated:
        return None
    reads = [read for one in lanes for read in one.reads]
    words, places = gathered(reads)
    names = iter(places)
    texts = [_filled(text, names) for text in marked]
    is_short = sum(map(len, texts)) <= MOST_TEXT
    return Lanes(words=tuple(words), texts=tuple(texts)) if is_short else None


def _filled(text: str, places: Iterator[str]) -> str:
    """A lane's text with the elements of words in the place of its reads."""
    first, *rest = text.split(HOLE)
    return first + "".join(next(places) + part for part in rest)


@dataclass
class _Lane:
    """One element of a vector as text."""

    problem: ElementwiseProblem
    vector: int
    lane: int
    reads: list[Reading] = field(default_factory=list)
    guards: list[str] = field(default_factory=list)
    is_sure: bool = True

    def __post_init__(self) -> None:
        tvm = _tvm.load()
        self.q = tvm.tirx.Var(LAST, self.problem.axes[-1].ty.dtype)
        self.analyzer = self._new_analyzer()

    def _new_analyzer(self) -> Any:
        """What is known of the axes, without any condition."""
        tvm = _tvm.load()
        from tvm.sym import Analyzer

        analyzer = Analyzer()
        *outer, last = self.problem.axes
        for axis, extent in zip(outer, self.problem.shape, strict=False):
            whole = tvm.tirx.const(0, axis.ty.dtype) if extent == 1 else tvm.ir.Range(0, extent)
            analyzer.bind(axis, whole)
        n_vectors = self.problem.shape[-1] // self.vector
        if n_vectors == 1:
            analyzer.bind(last, tvm.tirx.const(self.lane, last.ty.dtype))
        else:
            analyzer.bind(self.q, tvm.ir.Range(0, n_vectors))
            analyzer.bind(last, self.q * self.vector + self.lane)
        return analyzer

    def text(self) -> str:
        """The element, a hole for every read."""
        translator = Translator(self._read, index=self._index, branch=self._branch)
        return translator.text(self.problem.expression)

    def _branch(self, condition: Any, yes: Callable[[], str], no: Callable[[], str]) -> str:
        if not is_about_integers(condition):
            return self._unsure(condition, yes, no)
        tvm = _tvm.load()
        known = self.analyzer.simplify(condition)
        if type(known).__name__ == "IntImm":
            return yes() if int(known) else no()
        # Only in its simplest form does a condition tell the analyzer the range of a variable.
        otherwise = self.analyzer.simplify(tvm.tirx.Not(known))
        return f"({self._index(known)} ? {self._under(known, yes)} : {self._under(otherwise, no)})"

    def _unsure(self, condition: Any, yes: Callable[[], str], no: Callable[[], str]) -> str:
        """A choice by values: both sides are read, so both have to lie inside."""
        chosen = Translator(self._read, index=self._index, branch=self._branch).text(condition)
        before, self.is_sure = self.is_sure, False
        sides = yes(), no()
        self.is_sure = before
        return f"({chosen} ? {sides[0]} : {sides[1]})"

    def _under(self, condition: Any, part: Callable[[], str]) -> str:
        self.guards.append(self._index(condition))
        with self.analyzer.constraint_scope(condition):
            found = part()
        self.guards.pop()
        return found

    def _read(self, load: Read) -> str:
        name, dtype = str(load.source.name), str(load.source.dtype)
        if dtype not in READ_BYTES or not (self.is_sure or self._is_inside(load)):
            raise NotTranslated
        place = self._place(load)
        known = self.analyzer.modular_set(place)
        step, base = int(known.coeff), int(known.base)
        widest = min(self.vector, WORD_BYTES // READ_BYTES[dtype])
        while widest > 1 and (step % widest or prod(map(int, load.source.shape)) % widest):
            widest //= 2
        offset = base % widest
        self.reads.append(
            Reading(
                buffer=self.problem.names.index(name),
                place=self._index(place - offset),
                offset=offset,
                step=widest,
                guard=" && ".join(self.guards) or "true",
            )
        )
        return HOLE

    def _place(self, load: Read) -> Any:
        """Elements before one, simplified."""
        return self.analyzer.simplify(place_of(load))

    def _index(self, expression: Any) -> str:
        """The text of an integer or of a condition on integers."""
        known = self.analyzer.simplify(expression)
        return index_text(known, self._index_read, lambda one: bool(self.analyzer.can_prove(one)))

    def _index_read(self, load: Read) -> str:
        """An index that is read from memory, whatever the conditions around it."""
        name, dtype = str(load.source.name), str(load.source.dtype)
        if name not in self.problem.names or "int" not in dtype or not self._is_inside(load):
            raise NotTranslated
        return f"(int)p{self.problem.names.index(name)}[{self._index(self._place(load))}]"

    def _is_inside(self, load: Read) -> bool:
        bounds = self._new_analyzer().const_int_bound(self._place(load))
        last = prod(map(int, load.source.shape)) - 1
        return int(bounds.min_value) >= 0 and int(bounds.max_value) <= last

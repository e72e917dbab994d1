"""Softmax over rows for CPUs: from knob values to a parallel, vectorised program.

Three sweeps over a row that stays in the first-level cache: maximum, exponentials with
their sum, result. Sweeps run over whole vectors and end in a scalar tail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import factorial, log
from typing import Any

from schedules.low_level import low_level_program
from schedules.softmax_problem import LOG2_E, LOWEST, SoftmaxProblem, place_in

# Taylor coefficients of 2**f on [-0.5, 0.5]; the first one left out is below 2**-27.
EXP2_COEFFICIENTS = tuple(log(2.0) ** k / factorial(k) for k in range(8))
SMALLEST_EXPONENT = -126.0
EXPONENT_BIAS, MANTISSA_BITS = 127, 23


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuSchedule:
    """Decisions of one program.

    Attributes:
        rows_per_task: Rows that one parallel task handles.
        vector: Elements computed together.
        exp: ``polynomial`` (in vectors) or ``libm``.
        keeps: Whether exponentials wait in a buffer for their sum, or are computed twice.
    """

    rows_per_task: int
    vector: int
    exp: str
    keeps: bool


def softmax_cpu(problem: SoftmaxProblem, schedule: CpuSchedule) -> Any:
    """The ``PrimFunc``: low-level, parallel over groups of rows."""

    def emit(tir: Any, buffers: Sequence[Any]) -> None:
        _Emitter(tir, problem, schedule, buffers).emit()

    return low_level_program(problem.tensors, emit)


class _Emitter:
    def __init__(
        self, tir: Any, problem: SoftmaxProblem, schedule: CpuSchedule, buffers: Sequence[Any]
    ) -> None:
        self.tir, self.problem, self.schedule = tir, problem, schedule
        self.source, self.result = buffers[0], buffers[-1]
        self.mask = buffers[1] if problem.mask else None

    def emit(self) -> None:
        tir, rows_per_task = self.tir, self.schedule.rows_per_task
        n_tasks = -(-self.problem.n_rows // rows_per_task)
        with tir.sblock("root"), tir.parallel(0, n_tasks) as task, tir.sblock("rows"):
            tir.reads()
            tir.writes()
            self._allocate()
            with tir.serial(0, rows_per_task) as i:
                self.row = task * rows_per_task + i
                if self.problem.n_rows % rows_per_task == 0:
                    self._emit_row()
                else:
                    with tir.If(self.row < self.problem.n_rows), tir.Then():
                        self._emit_row()

    def _allocate(self) -> None:
        tir = self.tir
        self.lanes = tir.sblock_alloc_buffer((self.schedule.vector,), "float32", scope="local")
        self.maximum = tir.sblock_alloc_buffer((1,), "float32", scope="local")
        self.total = tir.sblock_alloc_buffer((1,), "float32", scope="local")
        if self.schedule.keeps:
            self.kept = tir.sblock_alloc_buffer((self.problem.n,), "float32")

    def _emit_row(self) -> None:
        tir = self.tir
        self._reduce(self.maximum, LOWEST, self._value, tir.max)
        self._reduce(self.total, 0.0, self._summand, lambda a, b: a + b)
        finish = tir.log(self.total[0]) if self.problem.log else 1.0 / self.total[0]
        tir.buffer_store(self.total, finish, [0])
        self._sweep(lambda column, lane: self._write(column))

    def _reduce(
        self,
        target: Any,
        start: float,
        term: Callable[[Any], Any],
        combine: Callable[[Any, Any], Any],
    ) -> None:
        """Combine the terms of a row lane by lane, then over the lanes."""
        tir, lanes = self.tir, self.lanes
        with tir.vectorized(0, self.schedule.vector) as lane:
            tir.buffer_store(lanes, tir.float32(start), [lane])
        self._sweep(
            lambda column, lane: tir.buffer_store(lanes, combine(lanes[lane], term(column)), [lane])
        )
        tir.buffer_store(target, tir.float32(start), [0])
        with tir.serial(0, self.schedule.vector) as lane:
            tir.buffer_store(target, combine(target[0], lanes[lane]), [0])

    def _sweep(self, step: Callable[[Any, Any], None]) -> None:
        """Run a step at every column of the row, given the column and its vector lane."""
        tir, vector = self.tir, self.schedule.vector
        n_whole = self.problem.n // vector
        if n_whole:
            with tir.serial(0, n_whole) as chunk, tir.vectorized(0, vector) as lane:
                step(chunk * vector + lane, lane)
        if self.problem.n % vector:
            with tir.serial(0, self.problem.n % vector) as lane:
                step(n_whole * vector + lane, lane)

    def _index(self, tensor: Any, column: Any) -> tuple[Any, ...]:
        return place_in(tensor, self.problem.shape, self.row, column)

    def _value(self, column: Any) -> Any:
        value = self.tir.cast(self.source[self._index(self.source, column)], "float32")
        if self.mask is None:
            return value
        mask = self.tir.cast(self.mask[self._index(self.mask, column)], "float32")
        return value * self.tir.float32(self.problem.scale) + mask

    def _summand(self, column: Any) -> Any:
        term = self._exponential(column)
        if not self.schedule.keeps:
            return term
        self.tir.buffer_store(self.kept, term, [column])
        return self.kept[column]

    def _write(self, column: Any) -> None:
        if self.problem.log:
            scale = self.tir.float32(self.problem.exponent_scale)
            value = (self._value(column) - self.maximum[0]) * scale - self.total[0]
        else:
            term = self.kept[column] if self.schedule.keeps else self._exponential(column)
            value = term * self.total[0]
        self.tir.buffer_store(
            self.result, self.tir.cast(value, self.problem.dtype), self._index(self.result, column)
        )

    def _exponential(self, column: Any) -> Any:
        difference = self._value(column) - self.maximum[0]
        if self.schedule.exp == "libm":
            return self.tir.exp(difference * self.tir.float32(self.problem.exponent_scale))
        return self._exp2(difference * self.tir.float32(self.problem.exponent_scale * LOG2_E))

    def _exp2(self, exponent: Any) -> Any:
        """2**exponent for exponent <= 0: a polynomial of the fraction, shifted by the integer."""
        tir = self.tir
        lowest = tir.float32(SMALLEST_EXPONENT)
        clamped = tir.max(exponent, lowest)
        whole = tir.nearbyint(clamped)
        fraction = clamped - whole
        power = tir.float32(EXP2_COEFFICIENTS[-1])
        for coefficient in reversed(EXP2_COEFFICIENTS[:-1]):
            power = power * fraction + tir.float32(coefficient)
        bits = (tir.cast(whole, "int32") + EXPONENT_BIAS) * (1 << MANTISSA_BITS)
        return tir.Select(
            exponent < lowest, tir.float32(0.0), power * tir.reinterpret("float32", bits)
        )

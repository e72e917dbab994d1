"""The part of a row that one thread of a CUDA softmax holds: decisions, loads, stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from schedules.softmax_problem import SoftmaxProblem, place_in

MINUS_INFINITY_BITS = -(1 << 23)


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaSchedule:
    """Decisions of one program.

    Attributes:
        threads_per_row: Of one block; power of two.
        rows_per_block: Rows that one block handles side by side.
        vector: Elements of one load or store.
        kept_chunks: Chunks of a row held in registers.
        batch: Streamed chunks in flight together.
        exp: ``fma`` (exp2 of one fused multiply-add), ``exp2`` or ``exp``.
        blocks_per_row: Power of two; more than one form a cluster, with one row per block.
    """

    threads_per_row: int
    rows_per_block: int
    vector: int
    batch: int
    exp: str
    kept_chunks: int = 0
    blocks_per_row: int = 1

    @property
    def row_threads(self) -> int:
        """Threads of all blocks of a row."""
        return self.threads_per_row * self.blocks_per_row

    def n_chunks(self, problem: SoftmaxProblem) -> int:
        """Vectors per thread that cover a row."""
        return -(-problem.n // (self.row_threads * self.vector))


@dataclass(frozen=True, slots=True)
class Chunks:
    """Registers for some vectors of a row.

    Attributes:
        values: float32, what is computed with.
        raw: As they lie in memory.
        mask: Of the mask as it lies in memory; ``None`` without one.
    """

    values: Any
    raw: Any
    mask: Any


class RowPart:
    """Emits loads and stores of one thread's vectors.

    Args:
        tir: The script builder.
        problem: What is computed.
        schedule: How.
        buffers: Those of ``problem.tensors``.
    """

    def __init__(
        self, tir: Any, problem: SoftmaxProblem, schedule: CudaSchedule, buffers: Sequence[Any]
    ) -> None:
        self._tir, self._problem, self._schedule = tir, problem, schedule
        self._source, self._result = buffers[0], buffers[-1]
        self._mask = buffers[1] if problem.mask else None
        # A register and no constant: generated code takes the address of what it reinterprets.
        self._infinity_bits = self._registers(1, "int32")

    def _registers(self, size: int, dtype: str) -> Any:
        return self._tir.sblock_alloc_buffer((size,), dtype, scope="local")

    def chunks(self, count: int) -> Chunks:
        """Registers for so many vectors."""
        size, mask = count * self._schedule.vector, self._problem.mask
        return Chunks(
            self._registers(size, "float32"),
            self._registers(size, self._problem.dtype),
            self._registers(size, mask.dtype) if mask else None,
        )

    def enter(self, *, row: Any, thread: Any) -> None:
        """Where the thread stands: its row, and its number among the threads of the row."""
        self._row, self._thread = row, thread
        bits = self._tir.int32(MINUS_INFINITY_BITS)
        self._tir.buffer_store(self._infinity_bits, bits, [0])

    def load(self, chunks: Chunks, slot: int, chunk: Any) -> None:
        """Read one vector, and the mask's, where the row has it."""
        for target, source in ((chunks.raw, self._source), (chunks.mask, self._mask)):
            if source is None:
                continue
            with self._guarded(self._inside(chunk)), self._vector() as i:
                value = source[self._index(source, chunk, i)]
                self._tir.buffer_store(target, value, [slot * self._schedule.vector + i])

    def widen(self, chunks: Chunks, slot: int, chunk: Any) -> None:
        """To float32; elements beyond the row become minus infinity, whose exponential is 0."""
        tir, inside = self._tir, self._inside(chunk)
        for i in range(self._schedule.vector):
            place = slot * self._schedule.vector + i
            value = tir.cast(chunks.raw[place], "float32")
            if chunks.mask is not None:
                value = value * tir.float32(self._problem.scale)
                value = value + tir.cast(chunks.mask[place], "float32")
            if inside is not None:
                padding = tir.reinterpret("float32", self._infinity_bits[0])
                value = tir.Select(inside, value, padding)
            tir.buffer_store(chunks.values, value, [place])

    def narrow(self, chunks: Chunks, slot: int, i: int, value: Any) -> None:
        """A result as it will lie in memory."""
        narrowed = self._tir.cast(value, self._problem.dtype)
        self._tir.buffer_store(chunks.raw, narrowed, [slot * self._schedule.vector + i])

    def store(self, chunks: Chunks, slot: int, chunk: Any) -> None:
        """Write one vector where the row exists and has it."""
        with (
            self._guarded(self._row_exists()),
            self._guarded(self._inside(chunk)),
            self._vector() as i,
        ):
            value = chunks.raw[slot * self._schedule.vector + i]
            self._tir.buffer_store(self._result, value, self._index(self._result, chunk, i))

    def _vector(self) -> Any:
        return self._tir.vectorized(0, self._schedule.vector)

    def _inside(self, chunk: Any) -> Any | None:
        """Whether this thread's part of a chunk lies in the row; ``None`` if it always does."""
        if isinstance(chunk, int):
            width = self._schedule.row_threads * self._schedule.vector
            always = (chunk + 1) * width <= self._problem.n
        else:
            always = self._streams_evenly()
        return None if always else self._column(chunk) < self._problem.n

    def _streams_evenly(self) -> bool:
        schedule = self._schedule
        n_streamed = schedule.n_chunks(self._problem) - schedule.kept_chunks
        covered = schedule.kept_chunks + -(-n_streamed // schedule.batch) * schedule.batch
        return covered * schedule.row_threads * schedule.vector == self._problem.n

    def _column(self, chunk: Any) -> Any:
        return (chunk * self._schedule.row_threads + self._thread) * self._schedule.vector

    def _index(self, tensor: Any, chunk: Any, i: Any) -> tuple[Any, ...]:
        """Position in a tensor; absent rows read the last."""
        row = self._row
        if self._row_exists() is not None:
            row = self._tir.min(row, self._problem.n_rows - 1)
        return place_in(tensor, self._problem.shape, row, self._column(chunk) + i)

    def _row_exists(self) -> Any | None:
        if self._problem.n_rows % self._schedule.rows_per_block == 0:
            return None
        return self._row < self._problem.n_rows

    @contextmanager
    def _guarded(self, condition: Any | None) -> Iterator[None]:
        if condition is None:
            yield
            return
        with self._tir.If(condition), self._tir.Then():
            yield

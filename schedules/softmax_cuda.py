"""Softmax over rows for CUDA: from knob values to a bound program.

A row belongs to ``threads_per_row`` threads of one block. Its chunks (one vector per
thread) are read once and kept in registers, or streamed: read for an online maximum and
sum, and read again when the result is written. A row that is too long for the registers of one
block can be shared by a cluster of blocks, which exchange two numbers through shared memory.

::

    kept chunks      load -> max ------+            +-> exp, sum -+          +-> scale, store
                                       v            |             v          |
    all threads of a row            maximum --------+          sum ----------+
                                       ^            |             ^          |
    streamed chunks  load -> online max and sum ----+-> rescale --+   load again, exp, store

Numbers: with m the maximum so far, every exponent is (x - m) * scale <= 0. It starts at
the lowest finite float, so rows that begin with minus infinity stay right; a row of
nothing else gives NaN, as its definition does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from schedules.low_level import low_level_program
from schedules.softmax_problem import LOG2_E, LOWEST, SoftmaxProblem
from schedules.softmax_rows import Chunks, CudaSchedule, RowPart
from schedules.softmax_threads import RowThreads

# Below this maximum its product with log2(e) would overflow in the one-instruction form. Such
# rows are masked out as a whole; a tiny factor keeps their finite elements equal and infinite
# ones at zero.
MASKED_MAXIMUM = -2.0e38
MASKED_FACTOR = 2.0**-100


def softmax_cuda(problem: SoftmaxProblem, schedule: CudaSchedule) -> Any:
    """The ``PrimFunc``: low-level, bound, ready to be lowered."""

    def emit(tir: Any, buffers: Sequence[Any]) -> None:
        _Emitter(tir, problem, schedule, buffers).emit()

    return low_level_program(problem.tensors, emit)


class _Emitter:
    """Emits the body of one program; values and buffers are those of one thread."""

    def __init__(
        self, tir: Any, problem: SoftmaxProblem, schedule: CudaSchedule, buffers: Sequence[Any]
    ) -> None:
        self.tir, self.problem, self.schedule = tir, problem, schedule
        self.buffers = buffers
        self.n_streamed = schedule.n_chunks(problem) - schedule.kept_chunks

    def emit(self) -> None:
        tir, schedule = self.tir, self.schedule
        n_blocks = -(-self.problem.n_rows // schedule.rows_per_block) * schedule.blocks_per_row
        with tir.sblock("root"):
            self._allocate()
            with (
                tir.thread_binding(0, n_blocks, thread="blockIdx.x") as block,
                self._cluster() as rank,
                tir.thread_binding(0, schedule.rows_per_block, thread="threadIdx.y") as row_lane,
                tir.thread_binding(0, schedule.threads_per_row, thread="threadIdx.x") as lane,
                tir.sblock("softmax"),
            ):
                tir.reads()
                tir.writes()
                self.threads.enter(row_lane, lane)
                group = block // schedule.blocks_per_row
                self.part.enter(
                    row=group * schedule.rows_per_block + row_lane,
                    thread=rank * schedule.threads_per_row + lane,
                )
                self._emit_row()

    def _cluster(self) -> Any:
        """The binding of a block's rank among the blocks of its row."""
        n_blocks = self.schedule.blocks_per_row
        if n_blocks == 1:
            return nullcontext(0)
        return self.tir.thread_binding(0, n_blocks, thread="clusterCtaIdx.x")

    def _allocate(self) -> None:
        def register() -> Any:
            return self.tir.sblock_alloc_buffer((1,), "float32", scope="local")

        self.threads = RowThreads(self.tir, self.schedule)
        self.part = RowPart(self.tir, self.problem, self.schedule, self.buffers)
        self.kept = self.part.chunks(max(1, self.schedule.kept_chunks))
        self.batch = self.part.chunks(self.schedule.batch)
        self.maximum, self.total = register(), register()
        self.previous, self.factor, self.shift = register(), register(), register()

    def _emit_row(self) -> None:
        self._set(self.maximum, 0, self._float(LOWEST))
        self._set(self.total, 0, self._float(0.0))
        self._load_kept()
        if self.n_streamed:
            self._stream_statistics()
        self._set(self.previous, 0, self.maximum[0])
        self.threads.maximum(self.maximum)
        self._prepare_exponent()
        if self.n_streamed:
            rescale = self._exponential(self.previous[0])
            self._set(self.total, 0, self.total[0] * rescale)
        self._add_kept()
        self.threads.sum(self.total)
        log_or_inverse = (
            self.tir.log(self.total[0]) if self.problem.log else self._float(1.0) / self.total[0]
        )
        self._set(self.factor, 0, log_or_inverse)
        self._store_kept()
        if self.n_streamed:
            self._stream_results()
        self.threads.leave()

    # Reading

    def _load_kept(self) -> None:
        chunks = range(self.schedule.kept_chunks)
        for chunk in chunks:
            self.part.load(self.kept, chunk, chunk)
        for chunk in chunks:
            self.part.widen(self.kept, chunk, chunk)
        for chunk in chunks:
            tree = self._tree([self._element(self.kept, chunk, i) for i in self._vector_range()])
            self._set(self.maximum, 0, self.tir.max(self.maximum[0], tree))

    @contextmanager
    def _streamed(self) -> Iterator[list[Any]]:
        """A loop over batches of streamed chunks, already loaded; gives the chunk numbers."""
        schedule = self.schedule
        with self.tir.serial(0, -(-self.n_streamed // schedule.batch)) as step:
            chunks = [
                step * schedule.batch + (schedule.kept_chunks + k) for k in range(schedule.batch)
            ]
            for slot, chunk in enumerate(chunks):
                self.part.load(self.batch, slot, chunk)
            for slot, chunk in enumerate(chunks):
                self.part.widen(self.batch, slot, chunk)
            yield chunks

    def _stream_statistics(self) -> None:
        with self._streamed():
            size = self.schedule.batch * self.schedule.vector
            values = [self.batch.values[i] for i in range(size)]
            self._set(self.previous, 0, self.maximum[0])
            self._set(self.maximum, 0, self.tir.max(self.maximum[0], self._tree(values)))
            rescaled = self.total[0] * self._exponential(self.previous[0])
            terms = [self._exponential(value) for value in values]
            self._set(self.total, 0, rescaled + self._tree(terms, lambda a, b: a + b))

    def _stream_results(self) -> None:
        with self._streamed() as chunks:
            for slot, chunk in enumerate(chunks):
                for i in self._vector_range():
                    value = self._element(self.batch, slot, i)
                    self.part.narrow(self.batch, slot, i, self._result(value))
                self.part.store(self.batch, slot, chunk)

    # Exponentials and results

    def _prepare_exponent(self) -> None:
        """For the fused form: the factor and the shift of its multiply-add, once per row."""
        if self.schedule.exp == "fma":
            masked = self.maximum[0] < self._float(MASKED_MAXIMUM)
            scale = self._float(self.problem.exponent_scale * LOG2_E)
            self._set(self.factor, 0, self.tir.Select(masked, self._float(MASKED_FACTOR), scale))
            self._set(self.shift, 0, self.maximum[0] * self.factor[0])

    def _exponential(self, value: Any) -> Any:
        tir, scale = self.tir, self.problem.exponent_scale
        if self.schedule.exp == "fma":
            return tir.exp2(value * self.factor[0] - self.shift[0])
        difference = value - self.maximum[0]
        if self.schedule.exp == "exp2":
            return tir.exp2(difference * self._float(scale * LOG2_E))
        return tir.exp(difference if scale == 1.0 else difference * self._float(scale))

    def _add_kept(self) -> None:
        for chunk in range(self.schedule.kept_chunks):
            terms = []
            for i in self._vector_range():
                term = self._exponential(self._element(self.kept, chunk, i))
                if not self.problem.log:
                    self._set(self.kept.values, chunk * self.schedule.vector + i, term)
                    term = self._element(self.kept, chunk, i)
                terms.append(term)
            self._set(self.total, 0, self.total[0] + self._tree(terms, lambda a, b: a + b))

    def _store_kept(self) -> None:
        for chunk in range(self.schedule.kept_chunks):
            for i in self._vector_range():
                value = self._element(self.kept, chunk, i)
                value = self._log_result(value) if self.problem.log else value * self.factor[0]
                self.part.narrow(self.kept, chunk, i, value)
            self.part.store(self.kept, chunk, chunk)

    def _result(self, value: Any) -> Any:
        if self.problem.log:
            return self._log_result(value)
        return self._exponential(value) * self.factor[0]

    def _log_result(self, value: Any) -> Any:
        difference = (value - self.maximum[0]) * self._float(self.problem.exponent_scale)
        return difference - self.factor[0]

    # Small words

    def _vector_range(self) -> range:
        return range(self.schedule.vector)

    def _element(self, chunks: Chunks, slot: int, i: int) -> Any:
        return chunks.values[slot * self.schedule.vector + i]

    def _float(self, value: float) -> Any:
        return self.tir.float32(value)

    def _set(self, buffer: Any, index: Any, value: Any) -> None:
        self.tir.buffer_store(buffer, value, [index])

    def _tree(self, values: list[Any], combine: Callable[[Any, Any], Any] | None = None) -> Any:
        """Combine values pairwise, so that the chain of dependent steps is short."""
        combine = combine or self.tir.max
        while len(values) > 1:
            pairs = [combine(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
            values = pairs + ([values[-1]] if len(values) % 2 else [])
        return values[0]

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

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from schedules import _tvm
from schedules.analysis import SCHEDULED
from schedules.cuda_kernel import device_code, once
from schedules.softmax_problem import LOG2_E, LOWEST, SoftmaxProblem

WARP = 32
FULL_WARP = 0xFFFFFFFF
# Below this maximum its product with log2(e) would overflow in the one-instruction form. Such
# rows are masked out as a whole; a tiny factor keeps their finite elements equal and infinite
# ones at zero.
MASKED_MAXIMUM = -2.0e38
MASKED_FACTOR = 2.0**-100
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
    kept_chunks: int
    batch: int
    exp: str
    blocks_per_row: int = 1

    @property
    def row_threads(self) -> int:
        """Threads of all blocks of a row."""
        return self.threads_per_row * self.blocks_per_row


def n_chunks(problem: SoftmaxProblem, row_threads: int, vector: int) -> int:
    """Vectors per thread that cover a row."""
    return -(-problem.n // (row_threads * vector))


def softmax_cuda(problem: SoftmaxProblem, schedule: CudaSchedule) -> Any:
    """The ``PrimFunc``: low-level, bound, ready to be lowered."""
    _tvm.load()
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as tir

    with _tvm.fast_parsing(), IRBuilder() as builder, tir.prim_func(s_tir=True):
        tir.func_name("main")
        source = tir.arg(problem.input_name, tir.buffer(problem.shape, problem.dtype))
        result = tir.arg(problem.output_name, tir.buffer(problem.shape, problem.dtype))
        tir.func_attr({"tirx.noalias": True, SCHEDULED: True})
        _Emitter(tir, problem, schedule, source, result).emit()
    return builder.get()


class _Emitter:
    """Emits the body of one program; values and buffers are those of one thread."""

    def __init__(
        self, tir: Any, problem: SoftmaxProblem, schedule: CudaSchedule, source: Any, result: Any
    ) -> None:
        self.tir, self.problem, self.schedule = tir, problem, schedule
        self.source, self.result = source, result
        self.n_chunks = n_chunks(problem, schedule.row_threads, schedule.vector)
        self.n_streamed = self.n_chunks - schedule.kept_chunks

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
                self.row_lane, self.lane = row_lane, lane
                self.row_thread = rank * schedule.threads_per_row + lane
                group = block // schedule.blocks_per_row
                self.row = group * schedule.rows_per_block + row_lane
                self._emit_row()

    def _cluster(self) -> Any:
        """The binding of a block's rank among the blocks of its row."""
        n_blocks = self.schedule.blocks_per_row
        if n_blocks == 1:
            return nullcontext(0)
        return self.tir.thread_binding(0, n_blocks, thread="clusterCtaIdx.x")

    def _allocate(self) -> None:
        tir, schedule, vector = self.tir, self.schedule, self.schedule.vector
        n_kept = max(1, schedule.kept_chunks) * vector
        n_batch = schedule.batch * vector
        n_warps = schedule.rows_per_block * max(1, schedule.threads_per_row // WARP)

        def registers(size: int, dtype: str = "float32") -> Any:
            return tir.sblock_alloc_buffer((size,), dtype, scope="local")

        self.kept, self.kept_raw = registers(n_kept), registers(n_kept, self.problem.dtype)
        self.batch, self.batch_raw = registers(n_batch), registers(n_batch, self.problem.dtype)
        self.maximum, self.total = registers(1), registers(1)
        self.previous, self.factor, self.shift = registers(1), registers(1), registers(1)
        # A register and no constant: generated code takes the address of what it reinterprets.
        self.infinity_bits = registers(1, "int32")
        self.partial_maxima = tir.sblock_alloc_buffer((n_warps,), "float32", scope="shared")
        self.partial_sums = tir.sblock_alloc_buffer((n_warps,), "float32", scope="shared")

    def _emit_row(self) -> None:
        self._set(self.infinity_bits, 0, self.tir.int32(MINUS_INFINITY_BITS))
        self._set(self.maximum, 0, self._float(LOWEST))
        self._set(self.total, 0, self._float(0.0))
        self._load_kept()
        if self.n_streamed:
            self._stream_statistics()
        self._set(self.previous, 0, self.maximum[0])
        self._reduce_over_row(self.maximum, self.partial_maxima, self.tir.max)
        self._reduce_over_cluster(self.maximum, "cluster_max")
        self._prepare_exponent()
        if self.n_streamed:
            rescale = self._exponential(self.previous[0])
            self._set(self.total, 0, self.total[0] * rescale)
        self._add_kept()
        self._reduce_over_row(self.total, self.partial_sums, lambda a, b: a + b)
        self._reduce_over_cluster(self.total, "cluster_sum")
        log_or_inverse = (
            self.tir.log(self.total[0]) if self.problem.log else self._float(1.0) / self.total[0]
        )
        self._set(self.factor, 0, log_or_inverse)
        self._store_kept()
        if self.n_streamed:
            self._stream_results()
        if self.schedule.blocks_per_row > 1:
            self.tir.evaluate(self._call("cluster_end"))

    # Reading

    def _load_kept(self) -> None:
        chunks = range(self.schedule.kept_chunks)
        for chunk in chunks:
            self._load(self.kept_raw, chunk, chunk)
        for chunk in chunks:
            self._widen(self.kept, self.kept_raw, chunk, chunk)
        for chunk in chunks:
            tree = self._tree([self._element(self.kept, chunk, i) for i in self._vector_range()])
            self._set(self.maximum, 0, self.tir.max(self.maximum[0], tree))

    def _load(self, raw: Any, slot: int, chunk: Any) -> None:
        with self._guarded(self._inside(chunk)), self.tir.vectorized(0, self.schedule.vector) as i:
            self._set(raw, slot * self.schedule.vector + i, self.source[self._index(chunk, i)])

    def _widen(self, values: Any, raw: Any, slot: int, chunk: Any) -> None:
        """To float32; elements beyond the row become minus infinity, whose exponential is 0."""
        inside = self._inside(chunk)
        for i in self._vector_range():
            value = self.tir.cast(self._element(raw, slot, i), "float32")
            if inside is not None:
                padding = self.tir.reinterpret("float32", self.infinity_bits[0])
                value = self.tir.Select(inside, value, padding)
            self._set(values, slot * self.schedule.vector + i, value)

    def _inside(self, chunk: Any) -> Any | None:
        """Whether this thread's part of a chunk lies in the row; ``None`` if it always does."""
        if isinstance(chunk, int):
            width = self.schedule.row_threads * self.schedule.vector
            always = (chunk + 1) * width <= self.problem.n
        else:
            always = self._streams_evenly()
        return None if always else self._column(chunk) < self.problem.n

    def _streams_evenly(self) -> bool:
        n_batches = -(-self.n_streamed // self.schedule.batch)
        covered = self.schedule.kept_chunks + n_batches * self.schedule.batch
        return covered * self.schedule.row_threads * self.schedule.vector == self.problem.n

    # Streaming

    @contextmanager
    def _streamed(self) -> Iterator[list[Any]]:
        """A loop over batches of streamed chunks, already loaded; gives the chunk numbers."""
        schedule = self.schedule
        with self.tir.serial(0, -(-self.n_streamed // schedule.batch)) as step:
            chunks = [
                step * schedule.batch + (schedule.kept_chunks + k) for k in range(schedule.batch)
            ]
            for slot, chunk in enumerate(chunks):
                self._load(self.batch_raw, slot, chunk)
            for slot, chunk in enumerate(chunks):
                self._widen(self.batch, self.batch_raw, slot, chunk)
            yield chunks

    def _stream_statistics(self) -> None:
        with self._streamed():
            values = [self.batch[i] for i in range(self.schedule.batch * self.schedule.vector)]
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
                    self._narrow(self.batch_raw, slot, i, self._result(value))
                self._store(self.batch_raw, slot, chunk)

    # Exponentials and results

    def _prepare_exponent(self) -> None:
        """For the fused form: the factor and the shift of its multiply-add, once per row."""
        if self.schedule.exp == "fma":
            masked = self.maximum[0] < self._float(MASKED_MAXIMUM)
            scale = self._float(self.problem.scale * LOG2_E)
            self._set(self.factor, 0, self.tir.Select(masked, self._float(MASKED_FACTOR), scale))
            self._set(self.shift, 0, self.maximum[0] * self.factor[0])

    def _exponential(self, value: Any) -> Any:
        tir, scale = self.tir, self.problem.scale
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
                    self._set(self.kept, chunk * self.schedule.vector + i, term)
                    term = self._element(self.kept, chunk, i)
                terms.append(term)
            self._set(self.total, 0, self.total[0] + self._tree(terms, lambda a, b: a + b))

    def _store_kept(self) -> None:
        for chunk in range(self.schedule.kept_chunks):
            for i in self._vector_range():
                value = self._element(self.kept, chunk, i)
                value = self._log_result(value) if self.problem.log else value * self.factor[0]
                self._narrow(self.kept_raw, chunk, i, value)
            self._store(self.kept_raw, chunk, chunk)

    def _result(self, value: Any) -> Any:
        if self.problem.log:
            return self._log_result(value)
        return self._exponential(value) * self.factor[0]

    def _log_result(self, value: Any) -> Any:
        difference = (value - self.maximum[0]) * self._float(self.problem.scale)
        return difference - self.factor[0]

    def _narrow(self, raw: Any, slot: int, i: int, value: Any) -> None:
        self._set(raw, slot * self.schedule.vector + i, self.tir.cast(value, self.problem.dtype))

    def _store(self, raw: Any, slot: int, chunk: Any) -> None:
        with (
            self._guarded(self._row_exists()),
            self._guarded(self._inside(chunk)),
            self.tir.vectorized(0, self.schedule.vector) as i,
        ):
            value = raw[slot * self.schedule.vector + i]
            self.tir.buffer_store(self.result, value, self._index(chunk, i))

    # Threads of a row together

    def _reduce_over_row(
        self, value: Any, partials: Any, combine: Callable[[Any, Any], Any]
    ) -> None:
        """Combine one register over all threads of a row; every thread gets the outcome."""
        tir, threads = self.tir, self.schedule.threads_per_row
        self._reduce_over_lanes(value, min(threads, WARP), combine)
        if threads <= WARP:
            return
        n_warps = threads // WARP
        first = self.row_lane * n_warps
        with self._guarded(self.lane % WARP == 0):
            self._set(partials, first + self.lane // WARP, value[0])
        tir.evaluate(tir.tvm_storage_sync("shared"))
        self._set(value, 0, partials[first + self.lane % n_warps])
        self._reduce_over_lanes(value, n_warps, combine)

    def _reduce_over_lanes(
        self, value: Any, n_lanes: int, combine: Callable[[Any, Any], Any]
    ) -> None:
        tir, distance = self.tir, n_lanes // 2
        while distance:
            other = tir.tvm_warp_shuffle_xor(tir.uint32(FULL_WARP), value[0], distance, WARP, WARP)
            self._set(value, 0, combine(value[0], other))
            distance //= 2

    def _reduce_over_cluster(self, value: Any, function: str) -> None:
        """Combine what the blocks of a row have combined over their threads."""
        n_blocks = self.schedule.blocks_per_row
        if n_blocks > 1:
            self._set(value, 0, self._call(function, value[0], n_blocks, result="float32"))

    def _call(self, function: str, *arguments: Any, result: str = "void") -> Any:
        from tvm.backend.cuda.op import cuda_func_call

        source = f"\n{once(device_code('cluster.cuh'))}\n"
        return cuda_func_call(function, *arguments, source_code=source, return_type=result)

    # Small words

    def _vector_range(self) -> range:
        return range(self.schedule.vector)

    def _element(self, registers: Any, slot: int, i: int) -> Any:
        return registers[slot * self.schedule.vector + i]

    def _float(self, value: float) -> Any:
        return self.tir.float32(value)

    def _set(self, buffer: Any, index: Any, value: Any) -> None:
        self.tir.buffer_store(buffer, value, [index])

    def _column(self, chunk: Any) -> Any:
        return (chunk * self.schedule.row_threads + self.row_thread) * self.schedule.vector

    def _index(self, chunk: Any, i: Any) -> tuple[Any, ...]:
        """Position in the tensor; threads of rows beyond the last read the last."""
        row = self.row
        if self._row_exists() is not None:
            row = self.tir.min(row, self.problem.n_rows - 1)
        position: list[Any] = [self._column(chunk) + i]
        for extent in reversed(self.problem.shape[:-1]):
            position.insert(0, row % extent)
            row = row // extent
        return tuple(position)

    def _row_exists(self) -> Any | None:
        if self.problem.n_rows % self.schedule.rows_per_block == 0:
            return None
        return self.row < self.problem.n_rows

    @contextmanager
    def _guarded(self, condition: Any | None) -> Iterator[None]:
        if condition is None:
            yield
            return
        with self.tir.If(condition), self.tir.Then():
            yield

    def _tree(self, values: list[Any], combine: Callable[[Any, Any], Any] | None = None) -> Any:
        """Combine values pairwise, so that the chain of dependent steps is short."""
        combine = combine or self.tir.max
        while len(values) > 1:
            pairs = [combine(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
            values = pairs + ([values[-1]] if len(values) % 2 else [])
        return values[0]

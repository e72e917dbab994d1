"""The softmax family: knobs of both programs behind the design-space protocol."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from schedules.covering import required
from schedules.knobs import Knob, KnobSpace, Values, first_fault
from schedules.limits import launch_refusal
from schedules.softmax_cpu import CpuSchedule, softmax_cpu
from schedules.softmax_cuda import softmax_cuda
from schedules.softmax_problem import softmax_problem
from schedules.softmax_rows import CudaSchedule
from schedules.task import Task

LOAD_BYTES = 16
MOST_KEPT_ELEMENTS = 128
REGISTERS_BESIDE_ELEMENTS = 30
# A shorter row fits into the registers of one block.
SHORTEST_SHARED_ROW = 16384
POWERS_OF_TWO = tuple(2**k for k in range(11))


def softmax_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if the family does not cover its workload."""
    problem = softmax_problem(task.workload)
    if problem is None:
        return None
    return CudaSoftmaxSpace(task) if task.target.kind == "cuda" else CpuSoftmaxSpace(task)


class _SoftmaxSpace(KnobSpace):
    name = "softmax"

    def __init__(self, task: Task) -> None:
        self._problem = required(
            softmax_problem(task.workload),
            task,
            family=self.name,
            expected="a float input and output of equal shape, at most a mask of whole rows, "
            "reduced over the last axis, with scale > 0",
        )
        self._target = task.target


class CudaSoftmaxSpace(_SoftmaxSpace):
    """Rows shared by the threads of a block."""

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:  # type: ignore[override]
        """Thread shape, vector width, share of a row in registers, loads in flight, exp form."""
        most = LOAD_BYTES // self._problem.element_bytes
        vectors = tuple(v for v in POWERS_OF_TWO if v <= most and self._problem.n % v == 0)
        return (
            Knob(name="threads_per_row", values=POWERS_OF_TWO),
            Knob(name="rows_per_block", values=POWERS_OF_TWO[:6]),
            Knob(name="vector", values=vectors),
            Knob(name="kept_percent", values=(0, 50, 100)),
            Knob(name="batch", values=(1, 2, 4)),
            Knob(name="exp", values=("fma", "exp2", "exp")),
            Knob(name="blocks_per_row", values=self._cluster_sizes()),
        )

    def _cluster_sizes(self) -> tuple[int, ...]:
        is_long = self._problem.n >= SHORTEST_SHARED_ROW
        most = self._target.largest_cluster if is_long else 1
        return tuple(size for size in (1, 2, 4, 8, 16) if size <= most)

    def schedule(self, values: Values) -> CudaSchedule:
        """The decisions that knob values stand for."""
        threads, vector = int(values["threads_per_row"]), int(values["vector"])
        blocks = int(values["blocks_per_row"])
        schedule = CudaSchedule(
            threads_per_row=threads,
            rows_per_block=int(values["rows_per_block"]),
            vector=vector,
            batch=int(values["batch"]),
            exp=str(values["exp"]),
            blocks_per_row=blocks,
        )
        chunks = schedule.n_chunks(self._problem)
        return replace(schedule, kept_chunks=chunks * int(values["kept_percent"]) // 100)

    def refusal(self, values: Values) -> str | None:
        """Limits of the device, and points that another point already stands for."""
        schedule = self.schedule(values)
        chunks = schedule.n_chunks(self._problem)
        n_streamed = chunks - schedule.kept_chunks
        faults = {
            "half of the threads of a row would have nothing to do": self._idle_half(schedule),
            f"more than {MOST_KEPT_ELEMENTS} elements per thread would be kept": (
                schedule.kept_chunks * schedule.vector > MOST_KEPT_ELEMENTS
            ),
            "half of one chunk is none": values["kept_percent"] == 50 and not schedule.kept_chunks,
            "blocks that share a row hold no other": (
                schedule.blocks_per_row > 1
                and (
                    schedule.rows_per_block > 1 or schedule.threads_per_row < self._target.warp_size
                )
            ),
            "a batch would be longer than the streamed part": schedule.batch > max(1, n_streamed),
            "the fused exponent needs the final maximum, so all chunks must be kept": (
                n_streamed > 0 and schedule.exp == "fma"
            ),
        }
        return first_fault(faults) or launch_refusal(
            self._target,
            threads_per_block=schedule.threads_per_row * schedule.rows_per_block,
            registers_per_thread=self._registers(schedule, n_streamed),
            shared_bytes=self._shared_bytes(schedule),
        )

    def _idle_half(self, schedule: CudaSchedule) -> bool:
        needed = schedule.row_threads // 2 * schedule.vector
        return schedule.row_threads > 1 and needed >= self._problem.n

    def _registers(self, schedule: CudaSchedule, n_streamed: int) -> int:
        n_elements = schedule.kept_chunks + (schedule.batch if n_streamed else 0)
        n_elements *= 2 if self._problem.mask else 1
        return REGISTERS_BESIDE_ELEMENTS + n_elements * schedule.vector

    def _shared_bytes(self, schedule: CudaSchedule) -> int:
        n_warps = max(1, schedule.threads_per_row // self._target.warp_size)
        return 2 * 4 * n_warps * schedule.rows_per_block

    def program(self, values: Values) -> Any:
        """The bound program."""
        return softmax_cuda(self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of threads, blocks, waves and bytes per thread; registers; shares; cluster."""
        schedule = self.schedule(values)
        chunks = schedule.n_chunks(self._problem)
        n_streamed = chunks - schedule.kept_chunks
        threads = schedule.threads_per_row * schedule.rows_per_block
        blocks = -(-self._problem.n_rows // schedule.rows_per_block) * schedule.blocks_per_row
        width = schedule.row_threads * schedule.vector
        return [
            float(np.log2(threads)),
            float(np.log2(blocks)),
            float(np.log2(blocks * threads / (2048 * self._target.n_cores))),
            float(np.log2(chunks * schedule.vector * self._problem.element_bytes)),
            float(self._registers(schedule, n_streamed)),
            n_streamed / chunks,
            self._problem.n / (chunks * width),
            float(np.log2(schedule.blocks_per_row)),
        ]


class CpuSoftmaxSpace(_SoftmaxSpace):
    """Rows in parallel over cores, elements in vectors."""

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:  # type: ignore[override]
        """Rows per parallel task, vector width, exponent form, whether exponentials are kept."""
        return (
            Knob(name="rows_per_task", values=POWERS_OF_TWO),
            Knob(name="vector", values=(4, 8, 16, 32, 64)),
            Knob(name="exp", values=("polynomial", "libm")),
            Knob(name="keep", values=("kept", "recomputed")),
        )

    def schedule(self, values: Values) -> CpuSchedule:
        """The decisions that knob values stand for."""
        return CpuSchedule(
            rows_per_task=int(values["rows_per_task"]),
            vector=int(values["vector"]),
            exp=str(values["exp"]),
            keeps=values["keep"] == "kept",
        )

    def refusal(self, values: Values) -> str | None:
        """Points that do more than the problem has."""
        schedule = self.schedule(values)
        if schedule.rows_per_task > 1 and schedule.rows_per_task >= 2 * self._problem.n_rows:
            return "a task would hold more rows than there are"
        if schedule.vector > 4 and schedule.vector > self._problem.n:
            return "a vector would be longer than a row"
        if self._problem.log and schedule.keeps:
            return "the logarithm needs no exponential again"
        return None

    def program(self, values: Values) -> Any:
        """The parallel, vectorised program."""
        return softmax_cpu(self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """Tasks per core, and the share of a row that fills whole vectors."""
        schedule = self.schedule(values)
        tasks = -(-self._problem.n_rows // schedule.rows_per_task)
        whole = self._problem.n // schedule.vector * schedule.vector
        return [float(np.log2(tasks / self._target.n_cores)), whole / self._problem.n]

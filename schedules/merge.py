"""The merge family: knobs of all row-merging operators behind the design-space protocol."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from schedules.knobs import Knob, Values, first_fault
from schedules.limits import launch_refusal
from schedules.merge_cuda import MergeSchedule, merge_cuda, n_blocks, n_tiles
from schedules.merge_problem import (
    COMBINE_PARTIALS,
    FRAME_COSINE,
    MIXTURES,
    SEGMENT_MEAN,
    MergeProblem,
    merge_problem,
)
from schedules.row_space import RowSpace, widest_vectors
from schedules.task import Task

REGISTERS_BESIDE_DATA = 32
MOST_DATA_REGISTERS = 144
MOST_CHUNKS = 16
LARGEST_IDLE_SHARE = 0.25
WARP = 32


def merge_space(task: Task) -> MergeSpace | None:
    """The family's space for a task, ``None`` where the default schedule has to serve."""
    return MergeSpace.covering(task)


class MergeSpace(RowSpace[MergeProblem]):
    """Rows shared by lanes, blocks of several rows."""

    name = "merge"
    covered = "one of its operators on float32, float16 or bfloat16 rows"

    problem_of = staticmethod(merge_problem)

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:  # type: ignore[override]
        """Vector width, threads per row, rows per block, work per thread, cache hint."""
        op = self._problem.op
        each: tuple[int, ...] = (1, 2, 4) if op in MIXTURES else (1,)
        unroll: tuple[int, ...] = (1,)
        if op in (SEGMENT_MEAN, COMBINE_PARTIALS):
            unroll = (1, 2, 4, 8)
        if op == FRAME_COSINE:
            each = (1, 2, 4, 8)
            unroll = (1,) if self._problem.is_listed else (1, 2, 3)
        chunks = (1,) if op == FRAME_COSINE else (1, 2, 3, 4, 7, 8)
        return (
            Knob(name="vector", values=self._vectors),
            Knob(name="lanes", values=self._lanes()),
            Knob(name="height", values=(1, 2, 4, 8, 16, 32)),
            Knob(name="chunks", values=chunks),
            Knob(name="each", values=each),
            Knob(name="unroll", values=unroll),
            Knob(name="stream", values=("no", "yes")),
        )

    @property
    def _vectors(self) -> tuple[int, ...]:
        return widest_vectors(self._problem.width, self._problem.element_bytes)

    def _lanes(self) -> tuple[int, ...]:
        """Powers of two, and for long rows the shares of a row that are whole warps."""
        per_row = self._problem.width // self._vectors[-1]
        powers = [2**k for k in range(11) if 2**k < 2 * per_row]
        whole = [
            per_row // parts
            for parts in range(1, MOST_CHUNKS + 1)
            if per_row % (32 * parts) == 0 and per_row // parts <= 1024
        ]
        return tuple(sorted({*powers, *whole}))

    def schedule(self, values: Values) -> MergeSchedule:
        """The decisions that knob values stand for."""
        vector, lanes = int(values["vector"]), int(values["lanes"])
        all_chunks = -(-(self._problem.width // vector) // lanes)
        is_cosine = self._problem.op == FRAME_COSINE
        return MergeSchedule(
            vector=vector,
            lanes=lanes,
            height=int(values["height"]),
            chunks=all_chunks if is_cosine else int(values["chunks"]),
            each=int(values["each"]),
            unroll=int(values["unroll"]),
            streams=values["stream"] == "yes",
        )

    def refusal(self, values: Values) -> str | None:
        """Limits of the device, idle threads, and points that another point stands for."""
        schedule = self.schedule(values)
        problem = self._problem
        per_row = problem.width // schedule.vector
        covered = n_tiles(problem, schedule) * schedule.lanes * schedule.chunks
        most_rows = self._most_rows()
        faults = {
            "too many threads of a row would have nothing to do": (
                covered > per_row and (covered - per_row) / covered > LARGEST_IDLE_SHARE
            ),
            # A block has a warp at least, however few rows there are for it.
            "half of the rows of a block would not exist": (
                schedule.lanes * schedule.height > WARP
                and schedule.height * schedule.each >= 2 * max(1, problem.n_results)
            ),
            "more rows at once than one result has": schedule.unroll > most_rows,
            "more frames together than there are": (
                problem.op == FRAME_COSINE and schedule.each > most_rows
            ),
            "more rows on their way than are walked": (
                problem.op == FRAME_COSINE and schedule.unroll > schedule.each + 1
            ),
            "a row takes more chunks than a thread can hold": (
                problem.op == FRAME_COSINE and schedule.chunks > MOST_CHUNKS
            ),
            "lanes of a sum are a power of two up to 32 or whole warps": (
                problem.op == FRAME_COSINE and not _can_sum(schedule.lanes)
            ),
            "data would not fit into registers": self._data(schedule) > MOST_DATA_REGISTERS,
        }
        return first_fault(faults) or launch_refusal(
            self._target,
            threads_per_block=schedule.lanes * schedule.height,
            registers_per_thread=REGISTERS_BESIDE_DATA + self._data(schedule),
            shared_bytes=self._shared_bytes(schedule),
        )

    def _most_rows(self) -> int:
        problem = self._problem
        if problem.op == SEGMENT_MEAN:
            return 1 << (min(problem.longest, 8) - 1).bit_length()
        if problem.op == COMBINE_PARTIALS:
            return problem.splits
        if problem.op == FRAME_COSINE:
            rows = problem.rows
            return rows if problem.is_listed else max(1, rows // problem.places)
        return 1

    def _data(self, schedule: MergeSchedule) -> int:
        """Registers that hold rows and sums."""
        words = max(1, schedule.vector * self._problem.element_bytes // 4)
        op = self._problem.op
        if op == FRAME_COSINE:
            ring = 2 if self._problem.is_listed else schedule.unroll + 1
            n_sums = 3 if self._problem.is_listed else 2
            rows = ring * schedule.chunks * words
            return rows + (n_sums + 1) * schedule.each + 3 * schedule.vector
        if op in MIXTURES:
            n_sources = 2 if op in ("blend_rows", "renoise_rows") else 1
            return n_sources * schedule.each * schedule.chunks * words + 6 * schedule.each
        return schedule.chunks * (schedule.unroll * words + schedule.vector)

    def _shared_bytes(self, schedule: MergeSchedule) -> int:
        if self._problem.op != FRAME_COSINE:
            return 0
        n_values = 3 * schedule.each if self._problem.is_listed else 2 * schedule.each + 1
        return 4 * schedule.height * max(1, schedule.lanes // 32) * n_values

    def program(self, values: Values) -> Any:
        """The bound program."""
        return merge_cuda(self._workload, self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of threads, blocks, waves and bytes in flight per thread; registers; idle share."""
        schedule = self.schedule(values)
        blocks = n_blocks(self._problem, schedule)
        threads = schedule.lanes * schedule.height
        registers = REGISTERS_BESIDE_DATA + self._data(schedule)
        resident = max(1, min(2048, self._target.registers_per_block // registers) // threads)
        in_flight = schedule.chunks * schedule.unroll * schedule.each * schedule.vector
        per_row = self._problem.width // schedule.vector
        covered = n_tiles(self._problem, schedule) * schedule.lanes * schedule.chunks
        return [
            float(np.log2(threads)),
            float(np.log2(blocks)),
            float(np.log2(blocks / (resident * self._target.n_cores))),
            float(np.log2(in_flight * self._problem.element_bytes)),
            float(np.log2(resident * threads)),
            float(registers),
            1.0 - per_row / covered,
        ]


def _can_sum(lanes: int) -> bool:
    return lanes % 32 == 0 or (lanes < 32 and lanes & (lanes - 1) == 0)

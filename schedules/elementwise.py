"""The elementwise family: knobs behind the design-space protocol."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from schedules.elementwise_cuda import (
    ElementwiseSchedule,
    elementwise_cuda,
    n_blocks,
    n_vectors,
)
from schedules.elementwise_lanes import Lanes, lanes_of
from schedules.elementwise_problem import ElementwiseProblem, elementwise_problem
from schedules.knobs import Knob, Values
from schedules.limits import launch_refusal
from schedules.row_space import READ_BYTES, WORD_BYTES, RowSpace
from schedules.task import Task

MOST_WORD_REGISTERS = 96
REGISTERS_BESIDE_DATA = 32


def elementwise_space(task: Task) -> ElementwiseSpace | None:
    """The family's space for a task, ``None`` where the default schedule has to serve."""
    return ElementwiseSpace.covering(task)


class ElementwiseSpace(RowSpace[ElementwiseProblem]):
    """Vectors of neighbouring elements, some per thread."""

    name = "elementwise"
    covered = "a program without sums that computes one output of float32, float16 or bfloat16"

    problem_of = staticmethod(elementwise_problem)

    @cached_property
    def lanes(self) -> dict[int, Lanes]:
        """Texts by vector width: the two widest, without those that gather element by element."""
        most, last = WORD_BYTES // self._problem.element_bytes, self._problem.shape[-1]
        fitting = [v for v in (1, 2, 4, 8) if v <= most and last % v == 0]
        found = {v: made for v in fitting if (made := lanes_of(self._problem, v)) is not None}
        if 1 not in found:
            return {}
        single = len(found[1].words)
        whole = [v for v, made in found.items() if len(made.words) <= max(1, v // 2) * single]
        return {v: found[v] for v in whole[-2:]}

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:  # type: ignore[override]
        """Vector width, threads per block, vectors per thread, cache hint, early start."""
        return (
            Knob(name="vector", values=tuple(self.lanes)),
            Knob(name="threads", values=(64, 128, 256, 512, 1024)),
            Knob(name="each", values=(1, 2, 4, 8)),
            Knob(name="stream", values=("no", "yes")),
            Knob(name="early", values=self.early_choices),
        )

    def schedule(self, values: Values) -> ElementwiseSchedule:
        """The decisions that knob values stand for."""
        return ElementwiseSchedule(
            vector=int(values["vector"]),
            threads=int(values["threads"]),
            each=int(values["each"]),
            streams=values["stream"] == "yes",
            early=values["early"] == "yes",
        )

    def refusal(self, values: Values) -> str | None:
        """Limits of the device, idle threads, and words that do not fit into registers."""
        schedule = self.schedule(values)
        vectors = n_vectors(self._problem, schedule)
        if schedule.threads > 64 and schedule.threads * schedule.each >= 2 * vectors:
            return "half of the threads of a block would have nothing to do"
        if schedule.each > 1 and self._word_registers(schedule) > MOST_WORD_REGISTERS:
            return "the words of a thread do not fit into registers"
        return launch_refusal(
            self._target,
            threads_per_block=schedule.threads,
            registers_per_thread=self._all_registers(schedule),
        )

    def _registers(self, lanes: Lanes) -> int:
        """Registers of the words of one vector."""
        kinds = [self._problem.inputs[word.buffer].dtype for word in lanes.words]
        pairs = zip(lanes.words, kinds, strict=True)
        return sum(-(-word.width * READ_BYTES[kind] // 4) for word, kind in pairs)

    def _word_registers(self, schedule: ElementwiseSchedule) -> int:
        return schedule.each * self._registers(self.lanes[schedule.vector])

    def _all_registers(self, schedule: ElementwiseSchedule) -> int:
        words = min(self._word_registers(schedule), MOST_WORD_REGISTERS)
        return REGISTERS_BESIDE_DATA + words + schedule.vector

    def program(self, values: Values) -> Any:
        """The bound program."""
        schedule = self.schedule(values)
        lanes = self.lanes[schedule.vector]
        return elementwise_cuda(self._workload, self._problem, lanes, schedule)

    def numbers(self, values: Values) -> list[float]:
        """log2 of blocks, waves and bytes on their way per thread; registers; words."""
        schedule = self.schedule(values)
        blocks = n_blocks(self._problem, schedule)
        return [
            float(np.log2(blocks)),
            float(np.log2(blocks * schedule.threads / (2048 * self._target.n_cores))),
            float(np.log2(1 + 4 * self._word_registers(schedule))),
            float(self._all_registers(schedule)),
            float(len(self.lanes[schedule.vector].words)),
        ]

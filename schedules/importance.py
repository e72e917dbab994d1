"""The family of the importance of keys: knobs behind the design-space protocol."""

from __future__ import annotations

from typing import Any

import numpy as np

from schedules.covering import required, unless_empty
from schedules.importance_cuda import ImportanceSchedule, importance_cuda
from schedules.importance_problem import OP, importance_problem
from schedules.knobs import Knob, KnobSpace, Values
from schedules.limits import MOST_REGISTERS_PER_THREAD, launch_refusal
from schedules.task import Task

REGISTERS_BESIDE_DATA = 48


def importance_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if the family does not cover it."""
    if not task.target.has_async_copies or importance_problem(task.workload) is None:
        return None
    return unless_empty(ImportanceSpace(task))


class ImportanceSpace(KnobSpace):
    """How blocks and warps share the keys."""

    name = OP
    knobs = (
        Knob(name="warps", values=(1, 2, 4, 8)),
        Knob(name="tiles", values=(1, 2, 4)),
        Knob(name="threads", values=(64, 128, 256)),
    )

    def __init__(self, task: Task) -> None:
        self._problem = required(
            importance_problem(task.workload),
            task,
            family=self.name,
            expected="queries and keys of one 16-bit dtype whose width is a multiple of 8",
        )
        self._workload, self._target = task.workload, task.target

    def schedule(self, values: Values) -> ImportanceSchedule:
        """The decisions that knob values stand for."""
        return ImportanceSchedule(**{knob.name: int(values[knob.name]) for knob in self.knobs})

    def refusal(self, values: Values) -> str | None:
        """Blocks without keys, and registers: queries, keys of a tile, scores of all tiles."""
        schedule, problem = self.schedule(values), self._problem
        eights = -(-problem.heads // problem.kv_heads // 8) or 1
        pieces = 4 * -(-problem.width // 32)
        registers = pieces * (eights + 2) + 4 * eights * schedule.tiles + REGISTERS_BESIDE_DATA
        if registers > MOST_REGISTERS_PER_THREAD:
            return "too many registers for a thread"
        if schedule.part >= 2 * max(problem.keys, 16):
            return "most of a block would have no keys"
        return launch_refusal(
            self._target,
            threads_per_block=max(32 * schedule.warps, schedule.threads),
            registers_per_thread=1,
        )

    def program(self, values: Values) -> Any:
        """The bound program."""
        return importance_cuda(self._workload, self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """Waves of the first launch, blocks of the second, keys of a block."""
        schedule, problem = self.schedule(values), self._problem
        blocks = -(-problem.keys // schedule.part) * problem.batch * problem.kv_heads
        return [
            float(np.log2(blocks / self._target.n_cores)),
            float(np.log2(problem.keys / schedule.threads / self._target.n_cores)),
            float(np.log2(schedule.part)),
        ]

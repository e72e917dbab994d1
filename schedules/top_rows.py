"""The rows of the largest scores, in their order, without sorting: one block that counts."""

from __future__ import annotations

from schedules.one_block import OneBlockSpace
from schedules.task import Task

OP = "top_rows"


def top_rows_space(task: Task) -> OneBlockSpace | None:
    """The operator's space, ``None`` for other operators and targets."""
    if task.workload.op != OP or task.target.kind != "cuda":
        return None
    return TopRowsSpace(task)


class TopRowsSpace(OneBlockSpace):
    """How many threads share the rows."""

    name = OP

    def constants(self) -> dict[str, int]:
        """Of ``cuda/top_rows.cuh``."""
        return {"GROUPS": self._workload.outputs[0].shape[0]}

    def arguments(self) -> list[str]:
        """Scores, how many, rows."""
        return [one.name for one in (*self._workload.inputs, *self._workload.outputs)]

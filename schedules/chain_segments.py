"""Chains of linked rows as segments: one block that counts, adds up and lists them."""

from __future__ import annotations

from schedules.one_block import OneBlockSpace
from schedules.task import Task
from schedules.workload import TensorSpec

OP = "chain_segments"
NEXT = "next_rows"


def chain_segments_space(task: Task) -> OneBlockSpace | None:
    """The operator's space, ``None`` for other operators and targets."""
    if task.workload.op != OP or task.target.kind != "cuda":
        return None
    space = ChainSegmentsSpace(task)
    return None if space.is_empty else space


class ChainSegmentsSpace(OneBlockSpace):
    """How many threads share the rows."""

    name = OP

    @property
    def shared_bytes(self) -> int:
        """A bit per row says whether it is linked."""
        return -(-self._rows // 32) * 4

    @property
    def workspaces(self) -> tuple[TensorSpec, ...]:
        """The row after each, where rows name the one before them."""
        following = TensorSpec(name=NEXT, shape=(self._rows,), dtype="int32")
        return (following,) if self._is("listed") else ()

    def _is(self, mark: str) -> bool:
        return bool(self._workload.attrs.get(mark, False))

    def constants(self) -> dict[str, int]:
        """Of ``cuda/chain_segments.cuh``."""
        return {
            "PLACES": int(self._workload.attrs["places"]),
            "GROUPS": self._workload.outputs[2].shape[0],
            "LISTED": int(self._is("listed")),
            "LIMITED": int(self._is("limited")),
        }

    def arguments(self) -> list[str]:
        """Cosines, threshold, previous rows, limit, outputs, workspace."""
        cosine, threshold, *rest = [one.name for one in self._workload.inputs]
        previous = rest.pop(0) if self._is("listed") else "nullptr"
        most = rest.pop(0) if self._is("limited") else "nullptr"
        outputs = [one.name for one in self._workload.outputs]
        following = NEXT if self._is("listed") else "nullptr"
        return [cosine, threshold, previous, most, *outputs, following]

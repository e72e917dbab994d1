"""A legal schedule for every function that nobody has tuned."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from schedules import _tvm
from schedules.analysis import SCHEDULED, is_scheduled
from schedules.candidate import Candidate
from schedules.cpu_default import cpu_schedule
from schedules.errors import IllegalCandidate
from schedules.gpu_default import gpu_schedule
from schedules.knobs import KnobSpace
from schedules.programs import function_of
from schedules.target import Target
from schedules.task import Task
from schedules.workload import Workload

DECISIONS = "{}"


def default_schedule(function: Any, target: Target) -> Any:
    """A function that builds and runs on the target, with any shapes, also symbolic ones.

    A function already marked as scheduled comes back unchanged.
    """
    if is_scheduled(function):
        return function
    symbol = function.attrs.get("global_symbol", "main")
    scheduled = gpu_schedule(function, target) if target.kind == "cuda" else cpu_schedule(function)
    return scheduled.with_attr("global_symbol", symbol).with_attr(SCHEDULED, True)


def intermediate_bytes(workload: Workload) -> int:
    """Memory that a workload's program keeps between its stages: scores of attention, for example.

    The default schedules keep each stage whole.
    """
    body = function_of(workload).body
    buffers = body.block.alloc_buffers
    return sum(
        prod(int(extent) for extent in buffer.shape) * (-(-int(buffer.dtype.bits) // 8))
        for buffer in buffers
    )


class DefaultSpace:
    """The space with one point: what runs before anything was tuned.

    Args:
        task: Whose default.
        stand_in: A family's space whose simplest point is the default of a task whose own program
            keeps too much between its stages (:func:`intermediate_bytes`): it would take seconds,
            or more memory than there is.
    """

    name = "default"

    def __init__(self, task: Task, stand_in: KnobSpace | None = None) -> None:
        self._task = task
        self._stand_in = stand_in

    @property
    def least_cycles(self) -> None:
        """Nothing is known beforehand."""

    def default(self) -> Candidate:
        """The only candidate."""
        return Candidate(space=self.name, decisions=DECISIONS)

    def sample(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        """The only candidate, if any was asked for."""
        del rng
        return [self.default()] if n > 0 else []

    def mutate(
        self, parents: Sequence[Candidate], rng: np.random.Generator
    ) -> list[Candidate | None]:
        """Nothing to change."""
        del rng
        return [None] * len(parents)

    def features(self, candidates: Sequence[Candidate]) -> np.ndarray:
        """No features: shape (n_candidates, 0)."""
        return np.zeros((len(candidates), 0), dtype=np.float32)

    def realise(self, candidate: Candidate) -> Any:
        """The default schedule of the task's workload.

        Raises:
            IllegalCandidate: It belongs to another space or has decisions.
        """
        if candidate != self.default():
            raise IllegalCandidate(
                f"candidate {candidate.candidate_id} of space {candidate.space!r} is not the "
                f"default: expected space {self.name!r} with decisions {DECISIONS}."
            )
        if self._stand_in is not None and self._stand_in.simplest is not None:
            return self._stand_in.program_module(self._stand_in.simplest)
        function = function_of(self._task.workload)
        return _tvm.load().IRModule({"main": default_schedule(function, self._task.target)})

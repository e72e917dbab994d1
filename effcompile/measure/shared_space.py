"""TVM's space with its work done by the build processes.

Replaying a trace takes tens of milliseconds, much of it under the interpreter lock, so
threads do not help; build processes idle while candidates are proposed. Each candidate
has its own seed, so the same ones come out whoever computes them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from effcompile.measure.build_worker import Proposed, ProposeRequest
from effcompile.measure.builder import ProcessBuilder
from schedules.candidate import Candidate
from schedules.generic import TvmSpace
from schedules.space import DesignSpace
from schedules.spaces import open_space, spaces_for
from schedules.task import Task


class SharedTvmSpace(TvmSpace):
    """A :class:`~schedules.generic.TvmSpace` that lets a builder's processes draw and mutate."""

    def __init__(self, task: Task, builder: ProcessBuilder) -> None:
        super().__init__(task)
        self._builder = builder
        self._is_searchable = builder.is_searchable(task)

    @property
    def is_searchable(self) -> bool:
        """See :class:`TvmSpace`; found out since the space was opened."""
        return bool(self._is_searchable.result())

    def _draws(self, seeds: Sequence[int]) -> list[Candidate | None]:
        request = ProposeRequest(task=self._task, seeds=tuple(seeds))
        return [self._received(one) for one in self._builder.propose(request)]

    def _changes(self, jobs: Sequence[tuple[Candidate, int]]) -> list[Candidate | None]:
        request = ProposeRequest(
            task=self._task,
            parents=tuple(parent for parent, _ in jobs),
            seeds=tuple(seed for _, seed in jobs),
        )
        return [self._received(one) for one in self._builder.propose(request)]

    def features(self, candidates: Sequence[Candidate]) -> np.ndarray:
        """See :class:`TvmSpace`; rows that are not known yet come from the build processes."""
        ids = [candidate.candidate_id for candidate in candidates]
        missing = {
            key: candidate
            for key, candidate in zip(ids, candidates, strict=True)
            if not self._features.holds(key)
        }
        rows = self._builder.features(self._task, list(missing.values())) if missing else []
        for key, row in zip(missing, rows, strict=True):
            if row is not None:
                self._features.put(key, np.array(row, dtype=np.float32))
        return super().features(candidates)

    def _received(self, proposed: Proposed | None) -> Candidate | None:
        if proposed is None:
            return None
        row = np.array(proposed.features, dtype=np.float32)
        self._features.put(proposed.candidate.candidate_id, row)
        return proposed.candidate


def shared_spaces(
    builder: ProcessBuilder, *, only: Collection[str] = ()
) -> tuple[Callable[[Task, str], DesignSpace], Callable[[Task], list[str]]]:
    """How the loop opens spaces, and which ones a task has, with a builder's processes.

    Args:
        builder: Whose processes draw for TVM's space.
        only: See :func:`~schedules.spaces.spaces_for`.
    """
    shared: dict[str, SharedTvmSpace] = {}

    def opened(task: Task, name: str) -> DesignSpace:
        if name != TvmSpace.name:
            return open_space(task, name)
        if task.task_id not in shared:
            shared[task.task_id] = SharedTvmSpace(task, builder)
        return shared[task.task_id]

    def names(task: Task) -> list[str]:
        return spaces_for(task, opened, only=only)

    return opened, names

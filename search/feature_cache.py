"""Features of candidates, extracted once: a space may need milliseconds for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np

from schedules.candidate import Candidate
from schedules.space import DesignSpace
from schedules.task import Task

LARGEST_BYTES = 256 * 2**20

SpaceOf = Callable[[Task, str], DesignSpace]


class FeatureCache:
    """Feature rows by task, space and candidate; the oldest leave when it grows too large.

    May be shared by threads.
    """

    def __init__(self, space_of: SpaceOf) -> None:
        self._space_of = space_of
        self._rows: dict[tuple[str, str, str], np.ndarray] = {}
        self._size_bytes = 0
        self._lock = Lock()

    def rows(self, task: Task, space_name: str, candidates: Sequence[Candidate]) -> np.ndarray:
        """Features in the given order, float32, shape (n_candidates, n_features).

        The space is opened only if a candidate is new.
        """
        task_id = task.task_id
        keys = [(task_id, space_name, candidate.candidate_id) for candidate in candidates]
        with self._lock:
            found = {key: self._rows[key] for key in keys if key in self._rows}
        missing = {
            key: candidate
            for key, candidate in zip(keys, candidates, strict=True)
            if key not in found
        }
        if missing:
            space = self._space_of(task, space_name)
            new = np.asarray(space.features(list(missing.values())), dtype=np.float32)
            rows = {key: row.copy() for key, row in zip(missing, new, strict=True)}
            found.update(rows)
            self._keep(rows)
        answer = [found[key] for key in keys]
        return np.stack(answer) if answer else np.empty((0, 0), dtype=np.float32)

    def _keep(self, rows: dict[tuple[str, str, str], np.ndarray]) -> None:
        with self._lock:
            for key, row in rows.items():
                if key not in self._rows:
                    self._rows[key] = row
                    self._size_bytes += row.nbytes
            while self._size_bytes > LARGEST_BYTES:
                oldest = next(iter(self._rows))
                self._size_bytes -= self._rows.pop(oldest).nbytes

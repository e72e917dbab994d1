"""Features of candidates, extracted once: a space may need milliseconds for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schedules.candidate import Candidate
from schedules.space import DesignSpace

LARGEST_BYTES = 256 * 2**20


class FeatureCache:
    """Feature rows by task, space and candidate; the oldest leave when it grows too large."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str], np.ndarray] = {}
        self._size_bytes = 0

    def rows(self, task_id: str, space: DesignSpace, candidates: Sequence[Candidate]) -> np.ndarray:
        """Features in the given order, float32, shape (n_candidates, n_features)."""
        keys = [(task_id, space.name, candidate.candidate_id) for candidate in candidates]
        missing = {
            key: candidate
            for key, candidate in zip(keys, candidates, strict=True)
            if key not in self._rows
        }
        found: dict[tuple[str, str, str], np.ndarray] = {}
        if missing:
            new = np.asarray(space.features(list(missing.values())), dtype=np.float32)
            found = dict(zip(missing, new, strict=True))
        answer = [found[key] if key in found else self._rows[key] for key in keys]
        self._keep(found)
        return np.stack(answer) if answer else np.empty((0, 0), dtype=np.float32)

    def _keep(self, rows: dict[tuple[str, str, str], np.ndarray]) -> None:
        for key, row in rows.items():
            self._rows[key] = row.copy()
            self._size_bytes += row.nbytes
        while self._size_bytes > LARGEST_BYTES:
            oldest = next(iter(self._rows))
            self._size_bytes -= self._rows.pop(oldest).nbytes

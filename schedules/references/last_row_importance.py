"""Importance of keys to the last query as ``schedules/importance_problem.py`` defines it."""

from __future__ import annotations

import numpy as np

from schedules.expected import Reference
from schedules.workload import Workload


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``."""
    query, key = (x.astype(np.float64) for x in inputs)
    group = query.shape[1] // key.shape[1]
    asked = query[:, :, -1].reshape(*key.shape[:2], group, query.shape[3])
    scores = asked @ key.swapaxes(2, 3) * float(workload.attrs["scale"])
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return [Reference(values=weights.mean(axis=(1, 2)))]

"""The rows of the largest scores, by sorting."""

from __future__ import annotations

import numpy as np

from schedules.expected import Reference
from schedules.references._rows import indices
from schedules.workload import Workload


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``."""
    scores, count = inputs
    n_groups = workload.outputs[0].shape[0]
    best = np.argsort(-scores.astype(np.float64), kind="stable")[: max(int(count[0]), 0)]
    padded = [*np.sort(best)[:n_groups], *[-1] * n_groups][:n_groups]
    return [Reference(values=indices(np.asarray(padded)))]


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """Few different scores, so that many are equal; two thirds of the room are wanted."""
    scores, _ = workload.inputs
    drawn = rng.integers(-5, 6, size=scores.shape).astype(np.float32) / 4
    return [drawn, np.array([workload.outputs[0].shape[0] * 2 // 3], np.int32)]

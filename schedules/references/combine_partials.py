"""Softmax-weighted results of parts of the keys, combined."""

from __future__ import annotations

import numpy as np

from schedules.expected import Reference
from schedules.references._rows import normal
from schedules.workload import Workload

_ROWS_AT_ONCE = 512


def reference(_workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``."""
    parts, sums = inputs[0], inputs[1].astype(np.float64)
    largest = sums.max(axis=0)
    base = np.where(np.isfinite(largest), largest, 0.0)
    raised = np.exp(sums - base)
    total = raised.sum(axis=0)
    weights = raised / np.where(total > 0, total, 1.0)
    values = np.empty(parts.shape[1:])
    for start in range(0, len(values), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        share = weights[:, rows]
        # A part without keys may hold anything.
        known = np.where(share[..., None] > 0, parts[:, rows].astype(np.float64), 0.0)
        values[rows] = np.einsum("srw,sr->rw", known, share)
    with np.errstate(divide="ignore"):
        lse = base + np.log(total)
    return [
        Reference(values=values),
        Reference(values=np.where(total > 0, lse, -np.inf)),
    ]


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """Some parts without keys, and a row without any."""
    parts, sums = workload.inputs
    logs = rng.normal(0.0, 2.0, size=sums.shape).astype(np.float32)
    logs[rng.uniform(size=sums.shape) < 0.1] = -np.inf
    logs[:, sums.shape[1] // 2] = -np.inf
    return [normal(parts, rng), logs]

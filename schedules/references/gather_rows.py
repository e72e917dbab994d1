"""Rows by index."""

from __future__ import annotations

import numpy as np

from schedules.expected import Reference
from schedules.references._rows import indices, inside, normal
from schedules.workload import Workload


def reference(_workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``."""
    x, index = inputs
    return [Reference(values=x[:, inside(index, x.shape[1])].astype(np.float64))]


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """Kept rows in order, as far as there are enough."""
    x, index = workload.inputs
    n_kept = index.shape[0]
    kept = rng.choice(x.shape[1], n_kept, replace=n_kept > x.shape[1])
    return [normal(x, rng), indices(np.sort(kept))]

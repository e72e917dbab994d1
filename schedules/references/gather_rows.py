"""Rows by index."""

from __future__ import annotations

import numpy as np

from schedules.expected import Reference
from schedules.references._rows import indices, inside, merged, normal, places_of
from schedules.workload import Workload


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``."""
    x, index = inputs
    rows, outer, made = places_of(workload)
    kept = x[outer, inside(index, x.shape[1])[made]]
    return merged(workload, kept.astype(np.float64), rows, x)


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """Kept rows in order, as far as there are enough."""
    x, index = workload.inputs
    n_kept = index.shape[0]
    kept = rng.choice(x.shape[1], n_kept, replace=n_kept > x.shape[1])
    return [normal(x, rng), indices(np.sort(kept))]

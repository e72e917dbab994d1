"""Rows, some of them from a cache."""

from __future__ import annotations

import numpy as np

from schedules.expected import Reference
from schedules.references._rows import indices, inside, normal
from schedules.workload import Workload


def reference(_workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``."""
    fresh, cache, source = inputs
    kept = cache[:, inside(source, cache.shape[1])].astype(np.float64)
    return [Reference(values=np.where((source < 0)[None, :, None], fresh.astype(np.float64), kept))]


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """About half of the rows from the cache."""
    fresh, cache, source = workload.inputs
    places = rng.integers(0, cache.shape[1], source.shape[0])
    kept = np.where(rng.uniform(size=len(places)) < 0.5, places, -1)
    return [normal(fresh, rng), normal(cache, rng), indices(kept)]

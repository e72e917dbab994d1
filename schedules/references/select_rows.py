"""Rows, some of them from a cache."""

from __future__ import annotations

import numpy as np

from schedules.expected import Reference
from schedules.references._rows import indices, inside, merged, normal, places_of
from schedules.workload import Workload


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``."""
    fresh, cache, source = inputs
    rows, outer, made = places_of(workload)
    kept = cache[outer, inside(source, cache.shape[1])[made]].astype(np.float64)
    values = np.where((source < 0)[made][:, None], fresh[outer, made].astype(np.float64), kept)
    return merged(workload, values, rows, fresh, cache)


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """About half of the rows from the cache."""
    fresh, cache, source = workload.inputs
    places = rng.integers(0, cache.shape[1], source.shape[0])
    kept = np.where(rng.uniform(size=len(places)) < 0.5, places, -1)
    return [normal(fresh, rng), normal(cache, rng), indices(kept)]

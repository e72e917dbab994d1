"""Kept rows with noise added again."""

from __future__ import annotations

import numpy as np

from schedules.expected import Reference
from schedules.references._rows import indices, inside, merged, mixed, normal, places_of
from schedules.workload import Workload


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``."""
    noise, clean, index, sigma = inputs
    share = float(sigma[0])
    rows, outer, made = places_of(workload)
    noisy = noise[outer, inside(index, noise.shape[1])[made]]
    values = mixed(noisy, clean[outer, made], share, 1.0 - share)
    return merged(workload, values, rows, noise, clean)


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """Kept rows in order and a level of noise between 0.1 and 0.9."""
    noise, clean, index, _ = workload.inputs
    n_kept = index.shape[0]
    kept = rng.choice(noise.shape[1], n_kept, replace=n_kept > noise.shape[1])
    sigma = rng.uniform(0.1, 0.9, size=1).astype(np.float32)
    return [normal(noise, rng), normal(clean, rng), indices(np.sort(kept)), sigma]

"""Two rows and a weight."""

from __future__ import annotations

import numpy as np

from schedules.expected import Reference
from schedules.references._rows import indices, inside, merged, mixed, normal, places_of
from schedules.workload import Workload


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``."""
    x, low, high, weight = inputs
    rows, outer, made = places_of(workload)
    share = weight.astype(np.float64)[made][:, None]
    one, two = (x[outer, inside(index, x.shape[1])[made]] for index in (low, high))
    return merged(workload, mixed(one, two, 1.0 - share, share), rows, x)


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """Frames between kept frames: the next two in time, at quarters of the way."""
    x, low, _, _ = workload.inputs
    n_rows, n_made = x.shape[1], low.shape[0]
    first = np.sort(rng.integers(0, n_rows, n_made))
    weight = rng.choice([0.0, 0.25, 0.5, 0.75, 1.0], n_made).astype(np.float32)
    return [normal(x, rng), indices(first), indices(np.minimum(first + 1, n_rows - 1)), weight]

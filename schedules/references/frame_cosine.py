"""Cosines of rows with the rows before them in time."""

from __future__ import annotations

import numpy as np

from schedules.expected import Reference
from schedules.references._rows import indices, inside, normal
from schedules.workload import Workload

SMALLEST_NORM = 1e-8
NO_PREDECESSOR = -2.0
_ROWS_AT_ONCE = 1024


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``; attribute ``places``, 0 where a list says what comes before."""
    x, *listed = inputs
    n_rows = len(x)
    before = listed[0] if listed else np.arange(n_rows) - int(workload.attrs["places"])
    mates = inside(before, n_rows)
    result = np.empty(n_rows)
    for begin in range(0, n_rows, _ROWS_AT_ONCE):
        part = slice(begin, begin + _ROWS_AT_ONCE)
        one, two = x[part].astype(np.float64), x[mates[part]].astype(np.float64)
        norms = [np.maximum(np.linalg.norm(rows, axis=1), SMALLEST_NORM) for rows in (one, two)]
        result[part] = (one * two).sum(axis=1) / (norms[0] * norms[1])
    return [Reference(values=np.where(before < 0, NO_PREDECESSOR, result))]


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows that resemble those before them more or less; some rows with none before."""
    spec = workload.inputs[0]
    n_rows = spec.shape[0]
    is_listed = len(workload.inputs) > 1
    places = max(1, n_rows // 8) if is_listed else int(workload.attrs["places"])
    x = normal(spec, rng)
    for begin in range(places, n_rows, places):
        now, then = x[begin : begin + places], x[begin - places : begin]
        share = rng.uniform(0, 1, size=(len(now), 1)).astype(np.float32)
        x[begin : begin + places] = (share * then[: len(now)] + (1 - share) * now).astype(x.dtype)
    if not is_listed:
        return [x]
    before = np.arange(n_rows) - places
    return [x, indices(np.where(rng.uniform(size=n_rows) < 0.1, -1, before))]

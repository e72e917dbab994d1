"""Means of segments of rows."""

from __future__ import annotations

import numpy as np

from schedules.expected import Reference
from schedules.references._rows import indices, inside, merged, normal, places_of
from schedules.workload import Workload


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``; attribute ``longest``."""
    x, *listed, starts = inputs
    rows = inside(listed[0], x.shape[1]) if listed else np.arange(x.shape[1])
    edges = np.clip(starts.astype(np.int64), 0, len(rows))
    longest = int(workload.attrs["longest"])
    chosen, outer, groups = places_of(workload)
    values = np.zeros((len(groups), x.shape[2]))
    for place, (repetition, group) in enumerate(zip(outer, groups, strict=True)):
        begin, end = edges[group], edges[group + 1]
        members = rows[begin : min(end, begin + longest)]
        if len(members):
            values[place] = x[repetition, members].mean(axis=0, dtype=np.float64)
    return merged(workload, values, chosen, x)


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """Every row in one segment, in random order; segments of random lengths."""
    x, *listed, starts = workload.inputs
    n_listed = listed[0].shape[0] if listed else x.shape[1]
    n_inner = starts.shape[0] - 2
    inner = (
        rng.choice(np.arange(1, n_listed), n_inner, replace=n_inner > n_listed - 1)
        if n_listed > 1
        else np.zeros(n_inner)
    )
    edges = indices(np.concatenate([[0], np.sort(inner), [n_listed]]))
    rows = [indices(rng.permutation(n_listed) % x.shape[1])] if listed else []
    return [normal(x, rng), *rows, edges]

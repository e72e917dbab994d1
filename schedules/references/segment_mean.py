"""Means of segments of rows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from schedules.expected import Reference
from schedules.references._rows import indices, inside, normal
from schedules.workload import Workload


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``; attribute ``longest``."""
    x, *listed, starts = inputs
    rows = inside(listed[0], x.shape[1]) if listed else np.arange(x.shape[1])
    edges = np.clip(starts.astype(np.int64), 0, len(rows))
    longest = int(workload.attrs["longest"])
    result = np.zeros((x.shape[0], len(edges) - 1, x.shape[2]))
    for group, (begin, end) in enumerate(pairwise(edges)):
        members = rows[begin : min(end, begin + longest)]
        if len(members):
            result[:, group] = x[:, members].astype(np.float64).mean(axis=1)
    return [Reference(values=result)]


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

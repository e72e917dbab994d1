"""Chains of linked rows as segments, walked one row after the other."""

from __future__ import annotations

import numpy as np

from schedules.expected import Reference
from schedules.references._rows import indices
from schedules.workload import Workload


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``; attribute ``places``."""
    cosine, threshold = inputs
    n_groups = workload.outputs[2].shape[0]
    chains = chains_of(cosine, float(threshold[0]), int(workload.attrs["places"]))
    starts = np.cumsum([0, *map(len, chains)])
    heads = [chain[0] for chain in chains]
    padding = max(0, n_groups - len(chains))
    padded = [*starts, *[len(cosine)] * padding][: n_groups + 1]
    outputs = (
        [row for chain in chains for row in chain],
        padded,
        [*heads, *[-1] * padding][:n_groups],
        [len(chains)],
    )
    return [Reference(values=indices(np.asarray(one))) for one in outputs]


def chains_of(cosine: np.ndarray, threshold: float, places: int) -> list[list[int]]:
    """Rows of every chain, chains in the order of their heads."""
    chains: dict[int, list[int]] = {}
    head_of: dict[int, int] = {}
    for row, value in enumerate(cosine.astype(np.float64)):
        linked = row >= places and value >= threshold
        head_of[row] = head_of[row - places] if linked else row
        chains.setdefault(head_of[row], []).append(row)
    return [chains[head] for head in sorted(chains)]


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """Cosines of which about half are links."""
    cosine, _ = workload.inputs
    drawn = rng.uniform(-1, 1, size=cosine.shape).astype(np.float32)
    return [drawn, np.zeros(1, np.float32)]

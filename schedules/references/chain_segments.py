"""Chains of linked rows as segments, walked one row after the other."""

from __future__ import annotations

import numpy as np

from schedules.expected import Reference
from schedules.references._rows import indices
from schedules.workload import Workload


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``; attributes ``places``, ``listed`` and ``limited``."""
    cosine, threshold, *rest = inputs
    attrs, n_rows = workload.attrs, len(cosine)
    previous = rest.pop(0) if attrs.get("listed") else np.arange(n_rows) - int(attrs["places"])
    most = int(rest.pop(0)[0]) if attrs.get("limited") else n_rows
    chains = chains_of(links_of(cosine, float(threshold[0]), previous, most), previous)
    n_groups = workload.outputs[2].shape[0]
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


def links_of(cosine: np.ndarray, threshold: float, previous: np.ndarray, most: int) -> np.ndarray:
    """Which rows are linked: those of the largest cosines, lower rows first among equals."""
    wide = cosine.astype(np.float64)
    rows = np.arange(len(wide))
    candidates = rows[(previous >= 0) & (previous < rows) & (wide >= threshold)]
    best = candidates[np.argsort(-wide[candidates], kind="stable")][: max(most, 0)]
    linked: np.ndarray = np.isin(rows, best)
    return linked


def chains_of(linked: np.ndarray, previous: np.ndarray) -> list[list[int]]:
    """Rows of every chain, chains in the order of their heads."""
    chains: dict[int, list[int]] = {}
    head_of: dict[int, int] = {}
    for row in range(len(linked)):
        head_of[row] = head_of[int(previous[row])] if linked[row] else row
        chains.setdefault(head_of[row], []).append(row)
    return [chains[head] for head in sorted(chains)]


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """Cosines of which about half are links, some of them equal; every fifth row follows none."""
    cosine = workload.inputs[0]
    (n_rows,) = cosine.shape
    cosines = rng.integers(-20, 21, size=n_rows).astype(np.float32) / 20
    drawn: list[np.ndarray] = [np.asarray(cosines), np.zeros(1, np.float32)]
    if workload.attrs.get("listed"):
        drawn.append(_followed(n_rows, rng))
    if workload.attrs.get("limited"):
        drawn.append(np.array([n_rows // 4], np.int32))
    return drawn


def _followed(n_rows: int, rng: np.random.Generator) -> np.ndarray:
    """The row before each: the nearest with the same place, of places drawn at random."""
    latest: dict[int, int] = {}
    previous = np.full(n_rows, -1, np.int32)
    for row, place in enumerate(rng.integers(0, 1 + n_rows // 5, size=n_rows)):
        if row % 5:
            previous[row] = latest.get(int(place), -1)
            latest[int(place)] = row
    return previous

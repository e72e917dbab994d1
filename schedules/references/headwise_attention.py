"""Head-wise arrow attention as ``schedules/headwise_problem.py`` defines it, in float64.

A sample of rows where the whole would take too long.
"""

from __future__ import annotations

import numpy as np

from schedules.expected import Reference, affordable_rows, range_of
from schedules.headwise_problem import ARROW, GRAIN, SKIP, modes_of, text_blocks
from schedules.inputs import draw_tensor
from schedules.workload import Workload

# Exponential, maximum, sum, mask: in the time of this many operations of a matrix product.
_FLOPS_PER_SCORE = 600
_MOST_SCORES = 1 << 24


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """N(0, 1), and the modes that the workload was made for."""
    inputs = [draw_tensor(spec, rng) for spec in workload.inputs]
    inputs[3] = np.array(modes_of(workload), dtype=np.int32)
    return inputs


def allowed(workload: Workload, mode: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Which keys some rows of a head may attend; shape (rows, keys)."""
    attrs, n_keys = workload.attrs, workload.inputs[1].shape[2]
    text = text_blocks(
        int(attrs["image_tokens"]), int(attrs["text_tokens"]), text_first=bool(attrs["text_first"])
    )
    kind, half_width = (int(value) for value in mode)
    if kind != ARROW:
        return np.full((len(rows), n_keys), kind != SKIP)
    row, key = rows[:, None] // GRAIN, np.arange(n_keys)[None, :] // GRAIN
    is_text = [(block >= text.start) & (block < text.stop) for block in (row, key)]
    near = np.abs(row - key) <= -(-half_width // GRAIN)
    return np.asarray(near | is_text[0] | is_text[1])


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``."""
    query, key, value, modes, *rest = inputs
    n_queries, width = query.shape[2:]
    n_keys, value_width = value.shape[2:]
    flops_per_row = n_keys * (2.0 * (width + value_width) + _FLOPS_PER_SCORE)
    rows = affordable_rows(workload, flops_per_row=flops_per_row)
    chosen = np.arange(int(np.prod(query.shape[:3]))) if rows is None else rows
    values = np.empty((len(chosen), value_width))
    at_once = max(1, _MOST_SCORES // n_keys)
    for place in np.unique(chosen // n_queries):
        inside = np.flatnonzero(chosen // n_queries == place)
        for start in range(0, len(inside), at_once):
            some = inside[start : start + at_once]
            values[some] = _rows(
                workload, (query, key, value, modes), rest, int(place), chosen[some] % n_queries
            )
    if rows is None:
        return [Reference(values=values.reshape(workload.outputs[0].shape))]
    return [Reference(values=values, rows=rows, limits=range_of(value, *rest))]


def _rows(
    workload: Workload,
    inputs: tuple[np.ndarray, ...],
    cache: list[np.ndarray],
    place: int,
    rows: np.ndarray,
) -> np.ndarray:
    """Some rows of one head, heads counted over the whole batch; shape (rows, value width)."""
    query, key, value, modes = inputs
    batch, head = divmod(place, query.shape[1])
    if modes[head, 0] == SKIP:
        if cache:
            return np.asarray(cache[0][batch, head, rows].astype(np.float64))
        return np.zeros((len(rows), value.shape[3]))
    key_head = head // (query.shape[1] // key.shape[1])
    scores = query[batch, head, rows].astype(np.float64) @ key[batch, key_head].T.astype(np.float64)
    scores = np.where(
        allowed(workload, modes[head], rows), scores * float(workload.attrs["scale"]), -np.inf
    )
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    mixed = weights @ value[batch, key_head].astype(np.float64)
    return np.asarray(mixed / weights.sum(axis=1, keepdims=True))

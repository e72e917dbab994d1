"""Scaled dot-product attention as ``effcompile/frontend/kernels/attention.py`` defines it.

Row by row in float64, the rows of one head at a time; a sample of rows where the whole
would take too long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schedules.dtypes import is_integer
from schedules.expected import Reference, affordable_rows, range_of
from schedules.inputs import draw_tensor
from schedules.mask_tiles import MaskTiles, drawn_tiles, tile_rows
from schedules.masked_problem import PACKED, TILES, known_tiles
from schedules.workload import Workload

# Exponential, maximum, sum, masks: in the time of this many operations of a matrix product.
_FLOPS_PER_SCORE = 600
# Scores that are held at once, 128 MiB each time they are copied.
_MOST_SCORES = 1 << 24
_LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True, slots=True)
class _Arguments:
    """Inputs by meaning; shapes as in the workload."""

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    mask: np.ndarray | MaskTiles | None
    starts: np.ndarray | None
    lengths: np.ndarray | None

    @staticmethod
    def of(workload: Workload, inputs: list[np.ndarray]) -> _Arguments:
        query, key, value, *rest = inputs
        kind = workload.attrs["mask"]
        mask = None if kind in ("none", PACKED) else rest[0]
        return _Arguments(
            query=query,
            key=key,
            value=value,
            mask=MaskTiles(rest[0], rest[1]) if kind == TILES else mask,
            starts=rest[0] if kind == PACKED else None,
            lengths=rest[-1] if workload.attrs["lengths"] else None,
        )


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """N(0, 1), any mask, and valid lengths from one key to all of them.

    Blocks of a mask are those that the workload was made for; packed sequences end anywhere.
    """
    n_keys = workload.inputs[1].shape[2]
    inputs = []
    if workload.attrs["mask"] == TILES:
        tiles = known_tiles(workload)
        if tiles is None:
            tiles = drawn_tiles(workload.inputs[3].shape, n_keys, rng)
        return [
            *(draw_tensor(spec, rng) for spec in workload.inputs[:3]),
            tiles.index,
            tiles.patterns,
        ]
    for spec in workload.inputs:
        if workload.attrs["mask"] == PACKED and is_integer(spec.dtype):
            inner = np.sort(rng.integers(0, n_keys, size=spec.shape[0] - 2, endpoint=True))
            inputs.append(np.array([0, *inner, n_keys], dtype=spec.dtype))
        elif is_integer(spec.dtype):
            lengths = rng.integers(1, n_keys, size=spec.shape, endpoint=True)
            lengths[-1] = n_keys
            inputs.append(lengths.astype(spec.dtype))
        else:
            inputs.append(draw_tensor(spec, rng))
    return inputs


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``."""
    arguments = _Arguments.of(workload, inputs)
    *_, n_queries, width = arguments.query.shape
    n_keys, value_width = arguments.value.shape[2:]
    flops_per_row = n_keys * (2.0 * (width + value_width) + _FLOPS_PER_SCORE)
    rows = affordable_rows(workload, flops_per_row=flops_per_row)
    n_rows = int(np.prod(arguments.query.shape[:3]))
    chosen = np.arange(n_rows) if rows is None else rows
    values = np.empty((len(chosen), value_width))
    heads = chosen // n_queries
    group = arguments.query.shape[1] // arguments.key.shape[1]
    for place in np.unique(heads // group):
        sources = _key_head(arguments, int(place))
        for head in np.unique(heads[heads // group == place]):
            inside = heads == head
            rows_inside = chosen[inside] % n_queries
            values[inside] = _head(workload, arguments, sources, int(head), rows_inside)
    if rows is None:
        return [Reference(values=values.reshape(workload.outputs[0].shape))]
    # Every row is a mean of values, or zero where nothing may be attended.
    return [Reference(values=values, rows=rows, limits=range_of(arguments.value))]


def _key_head(arguments: _Arguments, place: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values of one head, counted over the whole batch, in float64."""
    b, h = divmod(place, arguments.key.shape[1])
    return arguments.key[b, h].astype(np.float64), arguments.value[b, h].astype(np.float64)


def _head(
    workload: Workload,
    arguments: _Arguments,
    sources: tuple[np.ndarray, np.ndarray],
    head: int,
    rows: np.ndarray,
) -> np.ndarray:
    """Some rows of one head, counted over the whole batch; shape (rows, value width)."""
    b, h = divmod(head, arguments.query.shape[1])
    key, value = sources
    n_at_once = max(1, _MOST_SCORES // len(key))
    parts = []
    for start in range(0, len(rows), n_at_once):
        some = rows[start : start + n_at_once]
        scores = arguments.query[b, h, some].astype(np.float64) @ key.T
        scores *= float(workload.attrs["scale"])
        weights = _weights(workload, arguments, scores, (b, h, some))
        total = weights.sum(axis=1, keepdims=True)
        parts.append(weights @ value / np.where(total > 0, total, 1.0))
    return np.concatenate(parts)


def _weights(
    workload: Workload,
    arguments: _Arguments,
    scores: np.ndarray,
    place: tuple[int, int, np.ndarray],
) -> np.ndarray:
    """Shares of the keys per row, up to a factor; zeros where nothing may be attended.

    Works in the memory of ``scores``: there are many.
    """
    softcap = float(workload.attrs["softcap"])
    if softcap:
        scores = np.tanh(scores / softcap) * softcap
    mask = None if arguments.mask is None else _mask_rows(arguments.mask, place, scores.shape[1])
    allowed = _allowed(workload, arguments, scores.shape[1], place)
    if mask is not None and mask.dtype == bool:
        allowed = mask if allowed is None else allowed & mask
    elif mask is not None:
        # In float32, as PyTorch adds them: numbers that stand for minus infinity leave no score.
        scores[:] = (scores + mask.astype(np.float64)).astype(np.float32)
    if allowed is not None:
        scores = np.where(allowed, scores, _LOWEST)
    scores -= np.maximum(scores.max(axis=1, keepdims=True), _LOWEST)
    np.exp(scores, out=scores)
    if allowed is not None:
        scores *= allowed
    return scores


def _mask_rows(
    mask: np.ndarray | MaskTiles, place: tuple[int, int, np.ndarray], n_keys: int
) -> np.ndarray:
    """The part of a mask that some rows see; extents of one are for all."""
    b, h, rows = place
    if isinstance(mask, MaskTiles):
        return tile_rows(mask, (b, h), rows, n_keys)
    plane = mask[b if mask.shape[0] > 1 else 0, h if mask.shape[1] > 1 else 0]
    return np.asarray(plane[rows] if plane.shape[0] > 1 else plane)


def _allowed(
    workload: Workload, arguments: _Arguments, n_keys: int, place: tuple[int, int, np.ndarray]
) -> np.ndarray | None:
    """Which keys rows may attend by causality, window and length; shape (rows, keys).

    ``None`` means all of them.
    """
    b, _, rows = place
    attrs = workload.attrs
    windows = int(attrs["window_left"]), int(attrs["window_right"])
    ranged = arguments.lengths is not None or arguments.starts is not None
    if not ranged and not attrs["causal"] and max(windows) < 0:
        return None
    keys = np.arange(n_keys)
    allowed = np.ones((len(rows), n_keys), dtype=bool)
    position = rows + int(attrs["offset"])
    if arguments.starts is not None:
        sequence = np.searchsorted(arguments.starts, keys, side="right")
        allowed &= sequence == sequence[rows, None]
    if arguments.lengths is not None:
        length = int(arguments.lengths[b])
        allowed &= keys < length
        if attrs["at_end"]:
            position = rows + length - arguments.query.shape[2]
    position = position[:, None]
    if attrs["causal"]:
        allowed &= keys <= position
    left, right = windows
    if left >= 0:
        allowed &= keys >= position - left
    if right >= 0:
        allowed &= keys <= position + right
    return allowed

"""Scaled dot-product attention, as ``effcompile.frontend.kernels.attention`` defines it."""

from __future__ import annotations

from typing import Any

import numpy as np

from schedules.expected import Reference, affordable_rows
from schedules.workload import Workload

# An exponential costs about as much as this many products.
_FLOPS_PER_SCORE = 50


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``; a row is one query of one head."""
    query, key, value = inputs[:3]
    batch, heads, queries, width = query.shape
    n_keys, value_width = value.shape[2:]
    flops = n_keys * (2 * (width + value_width) + _FLOPS_PER_SCORE)
    rows = affordable_rows(workload, flops_per_row=flops)
    chosen = np.arange(batch * heads * queries) if rows is None else rows
    values = np.empty((len(chosen), value_width))
    rule = _Rule(workload.attrs, inputs)
    group = heads // key.shape[1]
    for which in np.unique(chosen // queries):
        b, h = divmod(int(which), heads)
        picked = np.flatnonzero(chosen // queries == which)
        tokens = chosen[picked] % queries
        keys = key[b, h // group].astype(np.float64)
        scores = query[b, h, tokens].astype(np.float64) @ keys.T
        shares = rule.shares(scores, b, h, tokens)
        values[picked] = shares @ value[b, h // group].astype(np.float64)
    if rows is None:
        return [Reference(values=values.reshape(workload.outputs[0].shape))]
    # Mixes of values, or zeros where nothing is attended.
    limits = min(0.0, float(value.min())), max(0.0, float(value.max()))
    return [Reference(values=values, rows=rows, limits=limits)]


class _Rule:
    """Scores to shares, with everything that may be attended or not."""

    def __init__(self, attrs: Any, inputs: list[np.ndarray]) -> None:
        self._attrs = attrs
        self._queries, self._keys = inputs[0].shape[2], inputs[1].shape[2]
        has_mask = attrs.get("mask", "none") != "none"
        self._mask = inputs[3] if has_mask else None
        self._lengths = inputs[-1] if attrs.get("lengths", False) else None

    def shares(self, scores: np.ndarray, b: int, h: int, tokens: np.ndarray) -> np.ndarray:
        """Softmax of the products of some queries with all keys; zeros where none is allowed."""
        scores = scores * float(self._attrs["scale"])
        cap = float(self._attrs.get("softcap", 0.0))
        if cap:
            scores = cap * np.tanh(scores / cap)
        allowed = self._in_reach(b, tokens)
        if self._mask is not None:
            mask = np.broadcast_to(self._mask, (*self._mask.shape[:2], self._queries, self._keys))
            mask = mask[b % mask.shape[0], h % mask.shape[1], tokens]
            if mask.dtype == np.bool_:
                allowed &= mask
            else:
                scores = scores + mask.astype(np.float64)
        scores = np.where(allowed, scores, -np.inf)
        most = scores.max(axis=1, keepdims=True)
        raised = np.exp(scores - np.where(np.isfinite(most), most, 0.0))
        total = raised.sum(axis=1, keepdims=True)
        return np.asarray(raised / np.where(total > 0, total, 1.0))

    def _in_reach(self, b: int, tokens: np.ndarray) -> np.ndarray:
        attrs, keys = self._attrs, np.arange(self._keys)[None, :]
        position = tokens[:, None] + int(attrs.get("offset", 0))
        allowed = np.ones((len(tokens), self._keys), dtype=bool)
        if self._lengths is not None:
            length = int(self._lengths.reshape(-1)[b])
            allowed &= keys < length
            if attrs.get("at_end", False):
                position = tokens[:, None] + length - self._queries
        if attrs.get("causal", False):
            allowed &= keys <= position
        left, right = (int(attrs.get(f"window_{side}", -1)) for side in ("left", "right"))
        if left >= 0:
            allowed &= keys >= position - left
        if right >= 0:
            allowed &= keys <= position + right
        return allowed

"""Softmax, or its logarithm, over the last axis."""

from __future__ import annotations

import numpy as np

from schedules.expected import Reference, affordable_rows
from schedules.workload import Workload

# An exponential costs about as much as this many products.
_FLOPS_PER_ELEMENT = 50


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``; attributes ``scale`` and ``log``."""
    x, *masks = inputs
    rows = affordable_rows(workload, flops_per_row=_FLOPS_PER_ELEMENT * x.shape[-1])
    chosen = x if rows is None else x.reshape(-1, x.shape[-1])[rows]
    scale, log = float(workload.attrs.get("scale", 1.0)), bool(workload.attrs.get("log", False))
    scores = chosen.astype(np.float64) * scale
    if masks:
        mask = np.broadcast_to(masks[0].astype(np.float64), x.shape)
        scores += mask if rows is None else mask.reshape(-1, x.shape[-1])[rows]
    values = softmax(scores, log=log)
    if rows is None:
        return [Reference(values=values)]
    return [Reference(values=values, rows=rows, limits=_limits(x, masks, scale, log=log))]


def softmax(scores: np.ndarray, *, log: bool = False) -> np.ndarray:
    """Softmax of float64 scores over the last axis, or its logarithm."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(total) if log else exponentials / total)


def _limits(
    x: np.ndarray, masks: list[np.ndarray], scale: float, *, log: bool
) -> tuple[float, float]:
    """Shares lie between 0 and 1; logarithms are at least the range less the row's length."""
    if not log:
        return 0.0, 1.0
    span = abs(scale) * (float(x.max()) - float(x.min()))
    span += sum(float(mask.max()) - float(mask.min()) for mask in masks)
    return -span - float(np.log(x.shape[-1])), 0.0

"""Softmax in integers alone, element by element as its definition says; exact."""

from __future__ import annotations

import numpy as np

from schedules.expected import Reference
from schedules.integer_exponential import IntegerExponential, integer_exponential
from schedules.integer_softmax_problem import CODES, DEFERRED, Widths, widths_of
from schedules.references._rows import normal
from schedules.workload import Workload


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``; attributes as in ``schedules.integer_softmax_problem``."""
    exponential, widths = integer_exponential(workload.attrs), widths_of(workload.attrs)
    raised, total = exponentials(inputs[0], exponential, widths)
    if widths.output == DEFERRED:
        return [Reference(values=raised.astype(np.int32)), Reference(values=total)]
    parts = shares(raised, total, widths)
    if widths.output == CODES:
        return [Reference(values=parts.astype(widths.code_dtype))]
    return [Reference(values=parts / float(1 << widths.output_bits))]


def exponentials(
    scores: np.ndarray, exponential: IntegerExponential, widths: Widths
) -> tuple[np.ndarray, np.ndarray]:
    """Integer exponentials, and the saturating sum of each row; int64."""
    raised = exponential.values[distances(scores, exponential)]
    if not np.issubdtype(scores.dtype, np.integer):
        raised = np.where(np.isneginf(scores.astype(np.float32)), 0, raised)
    total = np.minimum(raised.sum(axis=-1), (1 << widths.sum_bits) - 1)
    return raised, total


def distances(scores: np.ndarray, exponential: IntegerExponential) -> np.ndarray:
    """Codes of the distance from the row's maximum, int64.

    Floating-point scores are nats: one subtraction, one comparison and one product in float32,
    then rounding to the nearest code, halves to even. Integer scores are codes already.
    """
    if np.issubdtype(scores.dtype, np.integer):
        wide = scores.astype(np.int64)
        away = wide.max(axis=-1, keepdims=True) - wide
        return np.asarray(np.minimum(away, exponential.largest_code))
    x = scores.astype(np.float32)
    with np.errstate(invalid="ignore"):
        away = x.max(axis=-1, keepdims=True) - x
    near = np.fmin(away, np.float32(exponential.limit))
    return np.asarray(np.rint(near * np.float32(1 / exponential.step)), dtype=np.int64)


def shares(raised: np.ndarray, total: np.ndarray, widths: Widths) -> np.ndarray:
    """Parts of ``2**output_bits``, rounded down; int64. Rows without any exponential are 0."""
    divisor = np.maximum(total, 1)[..., None]
    most = (1 << widths.output_bits) - 1
    return np.asarray(np.minimum((raised << widths.output_bits) // divisor, most))


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """Scores of several widths of distribution, some masked, one row masked as a whole."""
    (scores,) = workload.inputs
    rows = scores.shape[:-1]
    if not scores.dtype.startswith(("float", "bfloat")):
        most = int(np.iinfo(scores.dtype).max)
        spread = min(most, 3 << int(workload.attrs["score_bits"]))
        drawn = rng.integers(-spread, spread + 1, size=scores.shape)
        return [np.clip(drawn, -most, most).astype(scores.dtype)]
    sigma = rng.choice([0.5, 1.0, 2.0, 4.0], size=(*rows, 1)).astype(np.float32)
    x = normal(scores, rng) * sigma.astype(normal(scores, rng).dtype)
    flat = x.reshape(-1, scores.shape[-1])
    flat[rng.uniform(size=flat.shape) < 0.05] = -np.inf
    flat[len(flat) // 2] = -np.inf
    flat[0] = flat[0, 0] if np.isfinite(flat[0, 0].astype(np.float32)) else 0.0
    return [x]

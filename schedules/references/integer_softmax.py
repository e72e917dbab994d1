"""Softmax in integers alone, element by element as its definition says; exact."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, prod

import numpy as np

from schedules.draws import MOST_DRAWN, repeated
from schedules.dtypes import numpy_dtype
from schedules.expected import Reference, affordable_rows
from schedules.integer_exponential import IntegerExponential, integer_exponential
from schedules.integer_softmax_problem import CODES, DEFERRED, Widths, widths_of
from schedules.workload import Workload

# Several passes over 64-bit integers and a division cost about as much as this many products.
_FLOPS_PER_ELEMENT = 1000
_ELEMENTS_AT_ONCE = 1 << 16
_MASKED_SHARE = 0.05


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``; attributes as in ``schedules.integer_softmax_problem``."""
    (scores,) = inputs
    widths = widths_of(workload.attrs)
    flat = scores.reshape(-1, scores.shape[-1])
    if widths.output == DEFERRED:
        raised, total = np.empty(flat.shape, np.int32), np.empty(len(flat), np.int64)
        for part, found in _by_parts(workload, flat):
            raised[part], total[part] = found
        whole = raised.reshape(scores.shape), total.reshape(scores.shape[:-1])
        return [Reference(values=values) for values in whole]
    rows = affordable_rows(
        workload,
        flops_per_row=_FLOPS_PER_ELEMENT * flat.shape[1],
        and_rows=(_masked_row(len(flat)),),
    )
    chosen = flat if rows is None else flat[rows]
    is_codes = widths.output == CODES
    values = np.empty(chosen.shape, widths.code_dtype if is_codes else np.float64)
    for part, found in _by_parts(workload, chosen):
        parts = shares(*found, widths)
        values[part] = parts if is_codes else parts / float(1 << widths.output_bits)
    if rows is None:
        return [Reference(values=values.reshape(scores.shape))]
    most = float((1 << widths.output_bits) - 1) if is_codes else 1.0
    return [Reference(values=values, rows=rows, limits=(0.0, most))]


def _by_parts(
    workload: Workload, scores: np.ndarray
) -> Iterator[tuple[slice, tuple[np.ndarray, np.ndarray]]]:
    """Exponentials and sums of rows, as many at a time as stay in a cache."""
    exponential, widths = integer_exponential(workload.attrs), widths_of(workload.attrs)
    n_at_once = max(1, _ELEMENTS_AT_ONCE // scores.shape[1])
    for start in range(0, len(scores), n_at_once):
        part = slice(start, start + n_at_once)
        yield part, exponentials(scores[part], exponential, widths)


def _masked_row(n_rows: int) -> int:
    """The row that is masked as a whole."""
    return n_rows // 2


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
    width = scores.shape[-1]
    if not scores.dtype.startswith(("float", "bfloat")):
        most = int(np.iinfo(scores.dtype).max)
        spread = min(most, 3 << int(workload.attrs["score_bits"]))
        codes = rng.integers(-spread, spread + 1, size=min(prod(scores.shape), MOST_DRAWN))
        return [repeated(np.clip(codes, -most, most).astype(scores.dtype), scores.shape)]
    n_drawn = min(prod(scores.shape[:-1]), ceil(MOST_DRAWN / width))
    nats = rng.standard_normal((n_drawn, width), dtype=np.float32)
    nats *= rng.choice(np.array([0.5, 1, 2, 4], np.float32), size=(n_drawn, 1))
    nats[rng.random(nats.shape, dtype=np.float32) < _MASKED_SHARE] = -np.inf
    rounded = nats.astype(numpy_dtype(scores.dtype)).reshape(-1)
    flat = repeated(rounded[:MOST_DRAWN], scores.shape).reshape(-1, width)
    flat[_masked_row(len(flat))] = -np.inf
    flat[0] = flat[0, 0] if np.isfinite(flat[0, 0].astype(np.float32)) else 0.0
    return [flat.reshape(scores.shape)]

"""Intervals that hold what they promise: split conformal prediction on past errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

LATEST = 60
"""Errors that count; older ones belong to a model that knew less."""

UNCALIBRATED = 2.0
"""Factor on the spread before enough errors are known."""


def conformal_factor(
    measured: np.ndarray,
    predicted: np.ndarray,
    spread: np.ndarray,
    *,
    coverage: float,
) -> float:
    """Factor on the predicted spread so that ``mean +- factor * spread`` covers a share.

    The factor is the order statistic of ``|measured - predicted| / spread`` that covers a
    fresh prediction with at least the wanted probability if errors are exchangeable. With
    too few errors no finite factor does, and :data:`UNCALIBRATED` is returned.

    Args:
        measured: Measured after predicting, in order of time, shape (n,).
        predicted: Means, same shape.
        spread: Standard deviations stated with them, positive, same shape.
        coverage: Wanted share, between 0 and 1.
    """
    scores = np.sort(np.abs(measured - predicted)[-LATEST:] / spread[-LATEST:])
    rank = math.ceil((len(scores) + 1) * coverage)
    return float(scores[rank - 1]) if 0 < rank <= len(scores) else UNCALIBRATED


def grouped_conformal_factor(scores: Sequence[np.ndarray], *, coverage: float) -> float:
    """Factor that covers a share of a group that nothing is known of.

    Errors of one group resemble each other, so groups are exchangeable and single errors are not.
    Every known group counts alike, and so does the one to come, with an error beyond all of them
    (hierarchical conformal prediction: Lee, Barber and Willett 2023). With too few groups no finite
    factor covers; the largest score is then the best there is.

    Args:
        scores: ``|measured - predicted| / spread`` of each known group, shape (n_i,), not empty.
        coverage: Wanted share, between 0 and 1.
    """
    weights = np.concatenate([np.full(len(one), 1.0 / len(one)) for one in scores])
    every = np.concatenate(scores)
    order = np.argsort(every)
    shares = np.cumsum(weights[order]) / (len(scores) + 1)
    rank = min(int(np.searchsorted(shares, coverage - 1e-12)), len(every) - 1)
    return float(every[order][rank])

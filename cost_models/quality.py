"""How good predictions were, judged on rows measured after the prediction was made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np


def spearman(measured: np.ndarray, predicted: np.ndarray) -> float | None:
    """Rank correlation, -1 to 1; ``None`` where fewer than three rows or no spread define none."""
    if not _has_order(measured, predicted):
        return None
    from scipy import stats

    return float(stats.spearmanr(measured, predicted).statistic)


def kendall(measured: np.ndarray, predicted: np.ndarray) -> float | None:
    """Share of pairs in the right order minus share in the wrong one, ties accounted for."""
    if not _has_order(measured, predicted):
        return None
    from scipy import stats

    return float(stats.kendalltau(measured, predicted).statistic)


def top_k_regret(measured: np.ndarray, predicted: np.ndarray, *, k: int) -> float | None:
    """Share by which the best of the ``k`` predicted best is worse than the true best.

    Low values are good in both arrays. ``None`` without rows.
    """
    if len(measured) == 0:
        return None
    picked = np.argsort(predicted, kind="stable")[:k]
    return float(measured[picked].min() / measured.min() - 1.0)


def centred_snr_db(measured: np.ndarray, predicted: np.ndarray) -> float | None:
    """``10 log10(variance of measured / mean squared error)``; 10 dB is R^2 of 0.9.

    Centred, because the raw ratio rewards a predictor of the mean whenever the spread is
    small. ``None`` where the measured values do not differ.
    """
    if len(measured) < 2:
        return None
    signal = float(np.sum((measured - measured.mean()) ** 2))
    noise = float(np.sum((measured - predicted) ** 2))
    if signal == 0.0:
        return None
    return float(10.0 * np.log10(signal / noise)) if noise > 0.0 else float("inf")


def mape(measured: np.ndarray, predicted: np.ndarray) -> float | None:
    """Mean absolute error as a share of the measured value; ``None`` without rows."""
    if len(measured) == 0:
        return None
    return float(np.mean(np.abs(predicted - measured) / np.abs(measured)))


def _has_order(measured: np.ndarray, predicted: np.ndarray) -> bool:
    return len(measured) >= 3 and np.ptp(measured) > 0 and np.ptp(predicted) > 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """Predictions of one task beside what was measured afterwards, shape (n,) each.

    Attributes:
        measured: Energies.
        predicted: Made before training on them.
        is_covered: Whether the interval stated with the prediction held the measurement;
            nan where none was stated.
    """

    measured: np.ndarray
    predicted: np.ndarray
    is_covered: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelQuality:
    """How good the predictions of a run were, all made before measuring.

    Numbers that compare candidates are taken inside each task and averaged by its number of
    predictions; tasks with fewer than five are left out of them. ``None`` where no task has
    enough.

    Attributes:
        model: Which predictor.
        n_predictions: Predictions with a measurement.
        spearman: Rank correlation.
        kendall: Share of pairs in the right order minus share in the wrong one.
        top1_regret: Share by which the predicted best is worse than the best.
        top5_regret: Likewise for the best of the five predicted best.
        centred_snr_db: Spread over squared error, decibels; 0 for a predictor of the mean.
        mape: Mean absolute error as a share.
        coverage: Share of measurements inside the stated 90 % intervals.
    """

    model: str
    n_predictions: int
    spearman: float | None = None
    kendall: float | None = None
    top1_regret: float | None = None
    top5_regret: float | None = None
    centred_snr_db: float | None = None
    mape: float | None = None
    coverage: float | None = None


LEAST_PREDICTIONS = 5


def quality_of(model: str, tasks: Sequence[Judged]) -> ModelQuality:
    """One record over several tasks."""
    tasks = [one for one in tasks if len(one.measured)]
    if not tasks:
        return ModelQuality(model=model, n_predictions=0)
    measured = np.concatenate([one.measured for one in tasks])
    predicted = np.concatenate([one.predicted for one in tasks])
    covered = np.concatenate([one.is_covered for one in tasks])
    stated = covered[np.isfinite(covered)]
    return ModelQuality(
        model=model,
        n_predictions=len(measured),
        spearman=_mean_over_tasks(tasks, spearman),
        kendall=_mean_over_tasks(tasks, kendall),
        top1_regret=_mean_over_tasks(tasks, partial(top_k_regret, k=1)),
        top5_regret=_mean_over_tasks(tasks, partial(top_k_regret, k=5)),
        centred_snr_db=_mean_over_tasks(tasks, centred_snr_db),
        mape=mape(measured, predicted),
        coverage=float(stated.mean()) if len(stated) else None,
    )


def _mean_over_tasks(
    tasks: Sequence[Judged], metric: Callable[[np.ndarray, np.ndarray], float | None]
) -> float | None:
    values, weights = [], []
    for one in tasks:
        value = metric(one.measured, one.predicted)
        if value is not None and len(one.measured) >= LEAST_PREDICTIONS and np.isfinite(value):
            values.append(value)
            weights.append(len(one.measured))
    return float(np.average(values, weights=weights)) if values else None

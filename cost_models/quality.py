"""How good predictions were, judged on rows measured after the prediction was made."""

from __future__ import annotations

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

    Source:
        Energy search specification, sections 4.2 and 4.3.
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

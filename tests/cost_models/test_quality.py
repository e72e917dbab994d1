from __future__ import annotations

import numpy as np
import pytest

from cost_models.quality import (
    Judged,
    centred_snr_db,
    kendall,
    mape,
    quality_of,
    spearman,
    top_k_regret,
)


def array(*values: float) -> np.ndarray:
    return np.array(values)


def test_rank_correlations_of_a_swapped_pair() -> None:
    measured, predicted = array(1.0, 2.0, 3.0), array(10.0, 30.0, 20.0)
    # Spearman: 1 - 6 (0 + 1 + 1) / (3 x 8); Kendall: 2 of 3 pairs in order.
    assert spearman(measured, predicted) == pytest.approx(0.5)
    assert kendall(measured, predicted) == pytest.approx(1 / 3)


def test_order_is_undefined_without_spread_or_rows() -> None:
    assert spearman(array(1.0, 1.0, 1.0), array(1.0, 2.0, 3.0)) is None
    assert kendall(array(1.0, 2.0), array(1.0, 2.0)) is None


def test_regret_is_what_the_best_pick_loses() -> None:
    measured, predicted = array(1.0, 1.2, 1.5), array(3.0, 1.0, 2.0)
    assert top_k_regret(measured, predicted, k=1) == pytest.approx(0.2)
    assert top_k_regret(measured, predicted, k=3) == 0.0
    assert top_k_regret(array(), array(), k=1) is None


def test_centred_snr_gives_a_predictor_of_the_mean_nothing() -> None:
    measured = array(99.0, 100.0, 101.0)
    assert centred_snr_db(measured, array(100.0, 100.0, 100.0)) == pytest.approx(0.0)
    # A tenth of the variance left as squared error: R^2 of 0.9, 10 dB.
    off = np.sqrt(0.2 / 3)
    assert centred_snr_db(measured, measured + off) == pytest.approx(10.0)
    assert centred_snr_db(array(1.0, 1.0), array(1.0, 2.0)) is None


def test_mape_is_a_share() -> None:
    assert mape(array(10.0, 20.0), array(11.0, 18.0)) == pytest.approx(0.1)


def judged(measured: np.ndarray, predicted: np.ndarray, covered: float = np.nan) -> Judged:
    return Judged(
        measured=measured, predicted=predicted, is_covered=np.full(len(measured), covered)
    )


def test_quality_is_taken_inside_tasks_and_averaged_by_their_size() -> None:
    right = judged(np.arange(1.0, 11.0), np.arange(1.0, 11.0), 1.0)
    wrong = judged(np.arange(100.0, 105.0), np.arange(105.0, 100.0, -1.0), 0.0)
    found = quality_of("power", [right, wrong])
    # Correlations 1 and -1 with 10 and 5 predictions.
    assert found.spearman == pytest.approx(1 / 3)
    assert found.top1_regret == pytest.approx((10 * 0.0 + 5 * 0.04) / 15)
    assert found.coverage == pytest.approx(10 / 15)
    assert found.n_predictions == 15


def test_small_tasks_and_unstated_intervals_give_no_number() -> None:
    found = quality_of("power", [judged(array(1.0, 2.0), array(1.0, 4.0))])
    assert (found.spearman, found.top1_regret, found.coverage) == (None, None, None)
    assert found.mape == pytest.approx(0.5)
    assert quality_of("power", []).n_predictions == 0

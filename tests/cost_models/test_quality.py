from __future__ import annotations

import numpy as np
import pytest

from cost_models.quality import centred_snr_db, kendall, mape, spearman, top_k_regret


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

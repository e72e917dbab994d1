from __future__ import annotations

import numpy as np
import pytest

from effcompile.measure.statistics import median_with_ci95


def test_two_values_use_students_interval() -> None:
    # mean 11, standard deviation sqrt(2), standard error 1, t(1) = 12.706.
    median, ci95 = median_with_ci95([10.0, 12.0])
    assert median == 11.0
    assert ci95 == pytest.approx(12.706)


def test_ten_values_use_the_second_and_ninth() -> None:
    # P(Binomial(10, 1/2) <= 1) = 11/1024 = 1.1 %, with 2 it would be 5.5 %.
    median, ci95 = median_with_ci95([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    assert median == 5.5
    assert ci95 == (9 - 2) / 2


def test_an_outlier_moves_neither_median_nor_interval() -> None:
    calm = median_with_ci95([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    assert median_with_ci95([1, 2, 3, 4, 5, 6, 7, 8, 9, 1e9]) == calm


def test_intervals_hold_the_true_median_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        ordered = np.sort(rng.exponential(size=20))
        # Rank 5 of 20: P(Binomial(20, 1/2) <= 5) = 2.07 %.
        _, ci95 = median_with_ci95(ordered)
        assert ci95 == pytest.approx((ordered[14] - ordered[5]) / 2)
        hits += ordered[5] <= np.log(2) <= ordered[14]
    assert hits / 2000 >= 0.94

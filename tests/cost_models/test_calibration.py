from __future__ import annotations

import numpy as np
import pytest

from cost_models.calibration import (
    LATEST,
    UNCALIBRATED,
    conformal_factor,
    grouped_conformal_factor,
)


def test_the_factor_is_the_order_statistic_that_covers() -> None:
    # Scores 1 ... 19; (19 + 1) x 0.9 = 18: the 18th smallest.
    misses = np.arange(1.0, 20.0)[::-1]
    factor = conformal_factor(100.0 + misses, np.full(19, 100.0), np.ones(19), coverage=0.9)
    assert factor == 18.0


def test_too_few_errors_cannot_promise_coverage() -> None:
    eight = np.ones(8)
    assert conformal_factor(eight, eight, eight, coverage=0.9) == UNCALIBRATED
    assert conformal_factor(eight, 2 * eight, eight, coverage=0.8) == 1.0


def test_old_errors_are_forgotten() -> None:
    misses = np.concatenate([np.full(100, 50.0), np.ones(LATEST)])
    ones = np.ones(len(misses))
    assert conformal_factor(ones + misses, ones, ones, coverage=0.9) == 1.0


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_intervals_cover_whatever_the_spread_was_off_by(scale: float) -> None:
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(400):
        misses = rng.normal(size=40) * scale
        zeros, ones = np.zeros(40), np.ones(40)
        factor = conformal_factor(misses[:39], zeros[:39], ones[:39], coverage=0.9)
        inside.append(abs(misses[39]) <= factor)
    # 36 of 40 places are inside: 0.9, with a standard error of 0.015.
    assert 0.85 < np.mean(inside) < 0.95


def test_a_group_counts_once_however_many_errors_it_has() -> None:
    many, few = np.full(1000, 9.0), [np.full(2, float(i)) for i in range(1, 10)]
    # Nine groups and the one to come: 0.8 of the whole is the eighth of them.
    assert grouped_conformal_factor([many, *few[:-1]], coverage=0.8) == 8.0
    assert grouped_conformal_factor([many, *few[:-1]], coverage=0.99) == 9.0


def test_an_unseen_group_is_covered_where_errors_of_a_group_resemble_each_other() -> None:
    rng = np.random.default_rng(0)

    def group() -> np.ndarray:
        return np.abs(rng.normal() + 0.1 * rng.normal(size=30))

    inside: dict[str, list[float]] = {"groups": [], "rows": []}
    for _ in range(300):
        known, new = [group() for _ in range(11)], group()
        factors = {
            "groups": grouped_conformal_factor(known, coverage=0.9),
            "rows": float(np.quantile(np.concatenate(known), 0.9)),
        }
        for name, factor in factors.items():
            inside[name].append(float(np.mean(new <= factor)))
    assert np.mean(inside["groups"]) > 0.88 > np.mean(inside["rows"])

"""What every cost model must do, and what each one is for."""

from __future__ import annotations

import numpy as np
import pytest

from cost_models.dataset import Dataset, over_group_best
from cost_models.latency import LatencyModel, slowdown_prior
from cost_models.quality import spearman


def landscape(n_rows: int, seed: int = 0, *, n_features: int = 8) -> Dataset:
    """Two tasks whose latencies differ a hundredfold and follow the same two features."""
    rng = np.random.default_rng(seed)
    features = rng.random((n_rows, n_features), dtype=np.float32)
    groups = np.arange(n_rows) % 2
    values = 100.0**groups * (10.0 + 20.0 * features[:, 0] + 10.0 * features[:, 1] ** 2)
    return Dataset(features=features, values=values, groups=groups)


@pytest.fixture
def model() -> LatencyModel:
    return LatencyModel(seed=1)


class TestContract:
    def test_is_unfitted_until_it_saw_enough_rows(self, model: LatencyModel) -> None:
        assert not model.is_fitted
        model.fit(landscape(0))
        assert not model.is_fitted
        model.fit(landscape(40))
        assert model.is_fitted

    def test_predicts_a_finite_mean_and_a_spread_per_row(self, model: LatencyModel) -> None:
        model.fit(landscape(40))
        prediction = model.predict(landscape(7, seed=1).features)
        assert prediction.mean.shape == prediction.spread.shape == (7,)
        assert np.isfinite(prediction.mean).all()
        assert (prediction.spread >= 0.0).all()

    def test_equal_rows_give_equal_bits(self, model: LatencyModel) -> None:
        model.fit(landscape(200))
        again = LatencyModel(seed=1)
        again.fit(landscape(200))
        new = landscape(50, seed=1).features
        np.testing.assert_array_equal(model.predict(new).mean, again.predict(new).mean)
        np.testing.assert_array_equal(model.predict(new).spread, again.predict(new).spread)

    def test_training_again_forgets_the_rows_before(self, model: LatencyModel) -> None:
        fresh = LatencyModel(seed=1)
        model.fit(landscape(50, seed=5))
        model.fit(landscape(200))
        fresh.fit(landscape(200))
        new = landscape(50, seed=1).features
        np.testing.assert_array_equal(model.predict(new).mean, fresh.predict(new).mean)

    def test_unknown_numbers_are_accepted(self, model: LatencyModel) -> None:
        data = landscape(60)
        data.features[::3, 2] = np.nan
        model.fit(data)
        assert np.isfinite(model.predict(data.features).mean).all()


def test_latency_is_learnt_over_tasks_of_different_size() -> None:
    model = LatencyModel()
    model.fit(landscape(400))
    new = landscape(200, seed=1)
    slowdown = over_group_best(new.values, new.groups)
    correlation = spearman(slowdown, model.predict(new.features).mean)
    assert correlation is not None
    assert correlation > 0.95


def test_the_spread_of_latency_matches_its_error() -> None:
    model = LatencyModel()
    model.fit(landscape(400))
    new = landscape(400, seed=1)
    prediction = model.predict(new.features)
    error = np.abs(prediction.mean - np.log2(over_group_best(new.values, new.groups)))
    assert 0.85 < np.mean(error < 2.0 * prediction.spread) <= 1.0


def test_rows_that_do_not_fit_are_refused() -> None:
    ones, groups = np.ones((2, 3), dtype=np.float32), np.zeros(2, dtype=np.int64)
    with pytest.raises(ValueError, match="expected one row of each per value"):
        Dataset(features=ones, values=np.ones(3), groups=groups)
    with pytest.raises(ValueError, match="leave failed trials out"):
        Dataset(features=ones, values=np.array([1.0, np.nan]), groups=groups)
    with pytest.raises(ValueError, match="leave failed trials out"):
        Dataset(features=ones, values=np.array([1.0, 0.0]), groups=groups)


class TestPrior:
    """What other workloads of a design space taught."""

    def test_it_orders_candidates_before_anything_was_timed(self) -> None:
        new = landscape(60, seed=1)
        model = LatencyModel(prior=slowdown_prior(landscape(400)))
        assert model.is_fitted
        found = spearman(over_group_best(new.values, new.groups), model.predict(new.features).mean)
        assert found is not None
        assert found > 0.8

    def test_what_it_misses_is_learnt(self) -> None:
        prior = slowdown_prior(landscape(400))
        known, new = landscape(200, seed=2), landscape(100, seed=1)
        # A device on which the third feature matters too.
        others = [
            Dataset(
                features=one.features,
                values=one.values * 2.0 ** one.features[:, 2],
                groups=one.groups,
            )
            for one in (known, new)
        ]
        model = LatencyModel(prior=prior)
        truth = np.log2(over_group_best(others[1].values, others[1].groups))
        before = np.abs(model.predict(new.features).mean - truth).mean()
        model.fit(others[0])
        after = np.abs(model.predict(new.features).mean - truth).mean()
        assert after < 0.7 * before

    def test_without_rows_and_prior_nothing_is_said(self) -> None:
        with pytest.raises(ValueError, match="before it was fitted"):
            LatencyModel().predict(landscape(3).features)

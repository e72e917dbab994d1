"""What every energy model must do, and what each one is for."""

from __future__ import annotations

import numpy as np
import pytest

from cost_models.baselines import ConstantPower, LinearEnergy
from cost_models.energy import EnergyModel, PowerModel
from cost_models.energy_rows import EnergyRows, energy_mj, power_w
from cost_models.features import FEATURE_NAMES
from cost_models.group_means import GroupMeans
from cost_models.published import PublishedEnergyModel
from cost_models.quality import spearman

NAMES = ("power", "published", "constant", "linear")


def rows(n_rows: int, seed: int = 0) -> tuple[EnergyRows, np.ndarray]:
    """Three tasks; power has a level per task and follows early feature 2 and late feature 0."""
    rng = np.random.default_rng(seed)
    early = rng.random((n_rows, 8), dtype=np.float32)
    late = np.zeros((n_rows, len(FEATURE_NAMES)), dtype=np.float32)
    late[:, :3] = rng.random((n_rows, 3), dtype=np.float32)
    groups = np.arange(n_rows) % 3
    latency_us = 10.0 ** (1 + groups) * (1.0 + 0.1 * early[:, 0])
    power = (150.0 + 100.0 * groups) * (1.0 + 0.2 * early[:, 2] + 0.1 * late[:, 0])
    energies = energy_mj(power, latency_us)
    least = np.array([energies[groups == g].min() if (groups == g).any() else 0 for g in range(3)])
    found = EnergyRows(
        early=early,
        late=late,
        latency_us=latency_us,
        groups=groups,
        flops=10.0 ** (9 + groups),
        unique_bytes=10.0 ** (6 + groups),
        least_mj=least[groups],
    )
    return found, energies


def new(name: str) -> EnergyModel:
    made: dict[str, EnergyModel] = {
        "power": PowerModel(seed=1),
        "published": PublishedEnergyModel(seed=1),
        "constant": ConstantPower(),
        "linear": LinearEnergy(),
    }
    return made[name]


@pytest.mark.parametrize("name", NAMES)
class TestContract:
    def test_is_unfitted_until_it_saw_enough_rows(self, name: str) -> None:
        model = new(name)
        assert not model.is_fitted
        model.fit(*rows(0))
        assert not model.is_fitted
        model.fit(*rows(30))
        assert model.is_fitted

    def test_predicts_positive_energies_with_a_spread(self, name: str) -> None:
        model = new(name)
        model.fit(*rows(40))
        prediction = model.predict(rows(7, seed=1)[0])
        assert prediction.mean.shape == prediction.spread.shape == (7,)
        assert (prediction.mean > 0.0).all()
        assert (prediction.spread > 0.0).all()

    def test_equal_rows_give_equal_bits_and_training_again_forgets(self, name: str) -> None:
        model, again = new(name), new(name)
        model.fit(*rows(40, seed=5))
        model.fit(*rows(200))
        again.fit(*rows(200))
        fresh = rows(50, seed=1)[0]
        np.testing.assert_array_equal(model.predict(fresh).mean, again.predict(fresh).mean)
        np.testing.assert_array_equal(model.predict(fresh).spread, again.predict(fresh).spread)

    def test_nothing_to_predict_is_no_error(self, name: str) -> None:
        model = new(name)
        model.fit(*rows(40))
        assert len(model.predict(rows(0)[0]).mean) == 0


def order_within_tasks(name: str) -> float:
    model = new(name)
    model.fit(*rows(300))
    fresh, energies = rows(150, seed=1)
    predicted = model.predict(fresh).mean
    found = [
        spearman(energies[fresh.groups == group], predicted[fresh.groups == group])
        for group in range(3)
    ]
    return float(np.mean([one for one in found if one is not None]))


def test_the_power_model_orders_better_than_every_baseline() -> None:
    power = order_within_tasks("power")
    assert power > 0.9
    assert power > max(order_within_tasks(name) for name in NAMES[1:]) + 0.05


def test_the_spread_of_the_power_model_matches_its_error() -> None:
    model = PowerModel()
    model.fit(*rows(300))
    fresh, energies = rows(300, seed=1)
    prediction = model.predict(fresh)
    inside = np.abs(prediction.mean - energies) < 2.0 * prediction.spread
    assert 0.85 < inside.mean() <= 1.0


def test_constant_power_takes_the_mean_of_the_task_and_of_all_for_a_new_one() -> None:
    known, energies = rows(30)
    model = ConstantPower()
    model.fit(known, energies)
    powers = power_w(energies, known.latency_us)
    predicted = power_w(model.predict(known).mean, known.latency_us)
    assert predicted[1] == pytest.approx(powers[known.groups == 1].mean())
    unseen = rows(3, seed=1)[0]
    unseen.groups[:] = 99
    predicted = power_w(model.predict(unseen).mean, unseen.latency_us)
    np.testing.assert_allclose(predicted, powers.mean())


@pytest.mark.parametrize("model", [ConstantPower(), LinearEnergy()])
def test_baselines_cannot_answer_before_they_saw_rows(model: EnergyModel) -> None:
    with pytest.raises(ValueError, match="was asked for before"):
        model.predict(rows(1)[0])


def test_the_linear_model_recovers_exact_coefficients() -> None:
    known, _ = rows(30)
    # 2 mJ per megabyte, 3 per billion operations, 0.1 per microsecond.
    energies = 2e-6 * known.unique_bytes + 3e-9 * known.flops + 0.1 * known.latency_us
    model = LinearEnergy()
    model.fit(known, energies)
    np.testing.assert_allclose(model.predict(known).mean, energies, rtol=1e-6)


def test_energy_is_power_times_latency() -> None:
    # 300 W for 200 us is 60 mJ.
    assert energy_mj(np.array([300.0]), np.array([200.0])) == pytest.approx([60.0])
    assert power_w(np.array([60.0]), np.array([200.0])) == pytest.approx([300.0])


def test_means_of_small_groups_are_pulled_towards_all() -> None:
    means = GroupMeans()
    # Group means 1 and 4, overall 2.5; one row of prior: (1 x 3 + 2.5) / 4 and (4 + 2.5) / 2.
    means.fit(np.array([1.0, 1.0, 1.0, 4.0]), np.array([0, 0, 0, 7]))
    np.testing.assert_allclose(means.of(np.array([0, 7, 3])), [5.5 / 4, 3.25, 2.5])

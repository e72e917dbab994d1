"""Power at a limit: what is left of it, and what models make of it."""

from __future__ import annotations

import numpy as np
import pytest

from cost_models.energy import PowerModel
from cost_models.power_limit import TIME_EXPONENT, limited, slope, unlimited
from cost_models.transfer import TransferModel
from tests.device_rows import DeviceRows, device_rows


def test_below_the_limit_nothing_changes_and_above_it_power_rises_less() -> None:
    watts = np.array([100.0, 700.0, 1400.0])
    left = np.exp(limited(np.log(watts), 700.0))
    assert left == pytest.approx([100.0, 700.0, 700.0 * 2.0**TIME_EXPONENT])
    assert np.exp(unlimited(np.log(left), 700.0)) == pytest.approx(watts)
    assert slope(np.log(watts * 1.01), 700.0).tolist() == [1.0, TIME_EXPONENT, TIME_EXPONENT]


def test_without_a_limit_nothing_changes() -> None:
    logs = np.log([100.0, 5000.0])
    assert limited(logs, None) is logs
    assert unlimited(logs, None) is logs
    assert slope(logs, None).tolist() == [1.0, 1.0]


LIMIT_W = 900.0


@pytest.fixture(scope="module")
def rows() -> DeviceRows:
    """Half of the kernels would draw more than the limit."""
    found = device_rows(8, 24, seed=1)
    assert 0.2 < np.mean(found.power_w > LIMIT_W) < 0.8
    return found


def test_a_model_that_knows_the_limit_errs_less_on_an_unseen_workload(rows: DeviceRows) -> None:
    held_w = np.exp(limited(np.log(rows.power_w), LIMIT_W))
    errors = {}
    for limit_w in (None, LIMIT_W):
        missed = []
        for group in range(8):
            known, new = rows.groups != group, rows.of(rows.groups == group).energy_rows()
            prior = TransferModel("power", limit_w=limit_w)
            own = rows.of(known)
            prior.fit(own.late, held_w[known], own.groups, own.latency_us)
            found = PowerModel(prior=prior).predict(new)
            true_mj = held_w[rows.groups == group] * new.latency_us * 1e-3
            missed.append(np.abs(found.mean / true_mj - 1.0).mean())
        errors[limit_w] = np.mean(missed)
    assert errors[LIMIT_W] < 0.8 * errors[None]


def test_a_stored_model_keeps_its_limit(rows: DeviceRows) -> None:
    prior = TransferModel("power", limit_w=LIMIT_W)
    prior.fit(rows.late, rows.power_w, rows.groups, rows.latency_us)
    again = TransferModel.from_parts(prior.parts())
    assert again.limit_w == LIMIT_W
    mean = PowerModel(prior=prior).predict(rows.energy_rows()).mean
    assert (PowerModel(prior=again).predict(rows.energy_rows()).mean == mean).all()

"""Energies at the power limit, as they are once the device's power has come to rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search.trial import Conditions, EnergyMeasurement, Verdict

LIMIT_W = 700.0


def window(energy_mj: float, latency_us: float, **changed: object) -> EnergyMeasurement:
    taken = EnergyMeasurement(
        energy_mj=energy_mj,
        power_w=energy_mj / latency_us * 1e3,
        sustained_latency_us=latency_us,
        meter="simulated",
        conditions=Conditions(power_limit_w=(LIMIT_W, LIMIT_W)),
        verdict=Verdict.POWER_CAPPED,
    )
    return replace(taken, **changed)


def test_windows_of_one_kernel_in_different_swings_agree() -> None:
    # mm-4096 on an H100: 788 W with a high clock, 565 W with a low one.
    fast, slow = window(162.6, 206.3), window(134.4, 238.1)
    assert fast.energy_mj != pytest.approx(slow.energy_mj, rel=0.1)
    assert fast.steady_mj == pytest.approx(slow.steady_mj, rel=0.03)
    assert fast.steady_latency_us == pytest.approx(slow.steady_latency_us, rel=0.03)


def test_at_rest_power_is_the_limit_and_nothing_changes() -> None:
    rest = window(140.0, 200.0)
    assert rest.power_w == LIMIT_W
    assert rest.steady_mj == pytest.approx(140.0)
    assert rest.steady_latency_us == pytest.approx(200.0)


@pytest.mark.parametrize(
    "changed",
    [
        {"verdict": Verdict.OK},
        {"power_w": 200.0},
        {"conditions": Conditions()},
        {"sustained_latency_us": None},
    ],
)
def test_what_the_limit_did_not_set_stays_as_measured(changed: dict[str, object]) -> None:
    taken = window(162.6, 206.3, **changed)
    assert taken.steady_mj == taken.energy_mj
    assert taken.steady_latency_us == taken.sustained_latency_us


def test_an_energy_that_was_not_measured_stays_unmeasured() -> None:
    assert replace(window(1.0, 1.0), energy_mj=None).steady_mj is None

"""Energies at the power limit, as they are once the device's power has come to rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search.trial import Conditions, EnergyMeasurement, Verdict
from tests.search.makers import energy, history_of, taken

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


@pytest.mark.parametrize(
    ("verdict", "lasting_us", "expected_us"),
    [
        (Verdict.OK, 106.0, 100.0),
        (Verdict.OK, 75.0, 75.0),
        (Verdict.OK, None, None),
        (Verdict.POWER_CAPPED, 106.0, 106.0),
        (Verdict.TOO_SHORT, 106.0, None),
    ],
)
def test_away_from_the_limit_a_window_slower_than_a_burst_was_disturbed(
    verdict: Verdict, lasting_us: float | None, expected_us: float | None
) -> None:
    history = history_of(100.0)
    measured = replace(energy(20.0, verdict), sustained_latency_us=lasting_us)
    history.add_energy(taken(1, measured))
    (point,) = history.points()
    assert point.latency_us == 100.0
    assert point.sustained_us == expected_us
    assert point.energy_mj == (20.0 if verdict.usable else None)

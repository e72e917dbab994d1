"""Recorded intervals, stated as a calibration that saw enough would have stated them."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from effcompile.measure.calibration import calibrate
from effcompile.measure.energy import Effort, evaluate, observe
from effcompile.measure.windows import MOST_PRIOR_DEGREES, Experience
from search.trial import EnergyMeasurement, Verdict
from tests.simulated_meter import Clock, SimulatedLoad, SimulatedMeter

SCRIPT = Path(__file__).parents[3] / "scripts" / "restate_intervals.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def measured(scatter_share: float, n_degrees: int) -> EnergyMeasurement:
    """A window whose power rises slowly, on a meter of which that much is known."""
    clock = Clock()
    known = Experience(
        period_s=0.1, period_share=0.001, scatter_share=scatter_share, n_degrees=n_degrees
    )
    effort = Effort(window_ms=300.0)
    seen = observe(
        SimulatedLoad(clock),
        SimulatedMeter(clock, ramp_w_per_s=8.0),
        effort=effort,
        experience=known,
        clock=clock,
    )
    return evaluate(seen, meter="simulated", effort=effort, experience=known)


def test_a_wide_interval_becomes_that_of_a_better_calibration(script: dict[str, Any]) -> None:
    wide, right = measured(0.06, 11), measured(0.01, MOST_PRIOR_DEGREES)
    assert wide.energy_mj == right.energy_mj
    assert (wide.ci95_mj or 0.0) > 3 * (right.ci95_mj or 0.0)
    calibrated = calibrate(
        SimulatedMeter(clock := Clock()),
        lambda: SimulatedLoad(clock),
        effort=Effort(window_ms=300.0),
        clock=clock,
        pause=clock.wait,
    )
    facts = replace(
        calibrated, period_ms=100.0, period_ci95_ms=0.1, scatter_share=0.06, n_degrees=11
    )
    found = script["restated"](wide, facts, 0.01**2)
    assert found.energy_mj == wide.energy_mj
    assert found.ci95_mj == pytest.approx(right.ci95_mj, rel=1e-6)
    lost = EnergyMeasurement(energy_mj=None, meter="simulated", verdict=Verdict.TOO_SHORT)
    assert script["restated"](lost, facts, 0.01**2) is lost

"""Aligned windows beside naive ones, on a simulated counter."""

from __future__ import annotations

import pytest

from effcompile.bench.meter_precision import agreement
from effcompile.measure.energy import Effort, observe
from effcompile.measure.windows import Experience
from tests.simulated_meter import Clock, SimulatedLoad, SimulatedMeter


def seen(experience: Experience, **options: object) -> object:
    clock = Clock()
    load, meter = SimulatedLoad(clock), SimulatedMeter(clock, **options)
    observed = observe(
        load, meter, effort=Effort(window_ms=10_000.0), experience=experience, clock=clock
    )
    return agreement("kernel", observed.readings, experience)


def test_aligned_windows_agree_with_a_long_naive_one_and_short_naive_ones_scatter() -> None:
    found = seen(Experience(period_s=0.1))
    assert found.n_aligned >= 9
    assert found.aligned_1s_mj == pytest.approx(15.0, rel=0.001)
    # Two readings of a counter that is up to a hundredth of the time old.
    assert 0.002 < found.naive_10s_scatter < 0.01
    assert abs(found.mean_difference) < 0.002
    assert found.aligned_1s_scatter < 0.001
    assert found.naive_100ms_scatter > 5 * found.aligned_1s_scatter


def test_power_that_drifts_shows_as_scatter_of_aligned_windows() -> None:
    steady, drifting = (
        seen(Experience(period_s=0.1)),
        seen(Experience(period_s=0.1), ramp_w_per_s=3.0),
    )
    assert drifting.aligned_1s_scatter > 0.01 > steady.aligned_1s_scatter
    assert abs(drifting.worst_difference) > 0.03

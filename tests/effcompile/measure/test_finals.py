from __future__ import annotations

import pytest

from effcompile.measure.finals import interleave
from search.ports import FinalMeasurement
from search.trial import EnergyMeasurement, Failure, LatencyMeasurement, TrialState, Verdict


def measured(burst_us: float, sustained_us: float | None, energy_mj: float | None):
    latency = LatencyMeasurement(
        latency_us=burst_us, ci95_us=0.1, n_repeats=5, n_launches=9, cache="hot", method="graph"
    )
    energy = EnergyMeasurement(
        energy_mj=energy_mj,
        sustained_latency_us=sustained_us,
        meter="simulated",
        verdict=Verdict.OK if energy_mj else Verdict.FOREIGN_LOAD,
    )
    return latency, energy


def test_burst_and_sustained_ratios_are_taken_round_by_round() -> None:
    # The second build takes half in bursts and 0.8 under lasting load; round 2 runs 10 % slow.
    slow = iter([1.0, 1.0, 1.1, 1.1])

    def measure(index: int):
        factor = next(slow)
        if index == 0:
            return measured(100.0 * factor, 110.0 * factor, 30.0 * factor)
        return measured(50.0 * factor, 88.0 * factor, 15.0 * factor)

    first, second = interleave(2, 2, measure)
    assert isinstance(first, FinalMeasurement) and isinstance(second, FinalMeasurement)
    assert second.latency_ratios == pytest.approx((0.5, 0.5))
    assert second.sustained_ratios == pytest.approx((0.8, 0.8))
    assert second.energy_ratios == pytest.approx((0.5, 0.5))
    assert second.energy.sustained_latency_us == pytest.approx(88.0 * 1.05)


def test_a_round_without_usable_energy_has_no_sustained_ratio() -> None:
    answers = iter([measured(100.0, 110.0, 30.0), measured(50.0, None, None)])
    _, second = interleave(2, 1, lambda index: next(answers))
    assert isinstance(second, FinalMeasurement)
    assert second.latency_ratios == (0.5,)
    assert (second.sustained_ratios, second.energy_ratios) == ((), ())


def test_a_build_that_fails_leaves_the_comparison() -> None:
    failure = Failure(state=TrialState.RUN_ERROR, message="gone")
    found = interleave(2, 2, lambda index: failure if index == 1 else measured(100.0, 110.0, 30.0))
    assert isinstance(found[0], FinalMeasurement) and found[1] == failure

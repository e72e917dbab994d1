from __future__ import annotations

import pytest

from effcompile.measure.beat import beat_of
from effcompile.measure.calibration import calibrate
from effcompile.measure.energy import Effort
from effcompile.measure.experience import experience_of, learnt
from effcompile.measure.windows import Reading
from search.meter_facts import MeterFacts
from tests.simulated_meter import Clock, SimulatedLoad, SimulatedMeter


def calibrated(**options: object) -> MeterFacts:
    clock = Clock()
    meter = SimulatedMeter(clock, **options)
    return calibrate(
        meter,
        lambda: SimulatedLoad(clock),
        effort=Effort(window_ms=300.0),
        clock=clock,
        pause=clock.wait,
    )


def test_the_period_of_a_counter_is_found() -> None:
    facts = calibrated(period_ms=99.8)
    assert facts.period_ms == pytest.approx(99.8, abs=0.3)
    assert abs(facts.period_ms - 99.8) <= 2 * facts.period_ci95_ms
    assert facts.has_beat
    assert facts.call_ms == pytest.approx(4.0, abs=0.1)
    assert learnt(facts).period_s == facts.period_ms / 1000


def test_a_counter_off_the_beat_counts_as_it_is_seen() -> None:
    facts = calibrated(wobble_ms=25.0, call_ms=1.0)
    assert not facts.has_beat
    assert learnt(facts).period_s is None


def readings(late_ms: float) -> list[Reading]:
    """A step every 100 ms, read every 4 ms; the host sleeps through one of them."""
    times = [i * 0.004 for i in range(330) if not 0.7 <= i * 0.004 < 0.7 + late_ms / 1000]
    # One block draws 1 % more than the one before, the next one less.
    counters = [30.0 * int(t / 0.1 + 1e-9) + 0.3 * (int(t / 0.1 + 1e-9) % 2) for t in times]
    return [
        Reading(time_s=t, counter_mj=counter_mj, n_launches=i, busy_us=50.0 * i)
        for i, (t, counter_mj) in enumerate(zip(times, counters, strict=True))
    ]


def test_a_step_that_a_busy_host_saw_late_does_not_widen_every_interval() -> None:
    for late_ms in (0.0, 60.0):
        seen = readings(late_ms)
        found = experience_of(seen, beat_of(seen))
        assert found.scatter_share == pytest.approx(0.01, rel=0.1)
        assert found.n_degrees >= 7


def test_a_step_that_a_busy_host_saw_late_does_not_hide_the_beat() -> None:
    for late_ms in (0.0, 15.0, 40.0):
        beat = beat_of(readings(late_ms))
        assert beat is not None and beat.is_regular
        assert beat.period_s == pytest.approx(0.1, rel=0.004)


def test_a_counter_faster_than_its_readings_has_no_beat() -> None:
    assert not calibrated(period_ms=1.0).has_beat


def test_the_anchor_is_measured() -> None:
    facts = calibrated()
    # 300 W for 50 us.
    assert facts.anchor_mj == pytest.approx(15.0, rel=0.01)
    assert facts.anchor_power_w == pytest.approx(300.0, rel=0.01)
    assert facts.anchor_latency_us == pytest.approx(50.0)
    assert facts.repeatability is not None and facts.repeatability < 0.01


def test_instant_power_is_compared_with_the_counter() -> None:
    assert calibrated().instant_share is None
    assert calibrated(instant_w=306.0).instant_share == pytest.approx(0.02, abs=0.005)


def test_calibration_takes_seconds_not_minutes() -> None:
    assert calibrated().seconds < 4.0

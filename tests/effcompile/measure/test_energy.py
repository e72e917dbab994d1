from __future__ import annotations

import pytest

from effcompile.measure import energy
from effcompile.measure.energy import Observation, Reading, evaluate, observe
from effcompile.measure.meters import DeviceState, NoMeter
from search.trial import EnergyMeasurement, Verdict
from tests.simulated_meter import Clock, SimulatedLoad, SimulatedMeter

WINDOW_MS = 500.0


def measured(**meter_options: object) -> EnergyMeasurement:
    clock = Clock()
    load = SimulatedLoad(clock)
    meter = SimulatedMeter(clock, **meter_options)
    observation = observe(load, meter, settle_ms=200.0, window_ms=WINDOW_MS, clock=clock)
    assert load.finished
    return evaluate(observation, window_ms=WINDOW_MS, meter=meter.name)


def test_energy_is_power_times_latency() -> None:
    # 300 W for 50 us are 15 mJ; poll every 5 ms over 0.5 s allows 1 %.
    result = measured()
    assert result.verdict is Verdict.OK
    assert result.energy_mj == pytest.approx(15.0, rel=0.01)
    assert result.power_w == pytest.approx(300.0, rel=0.01)
    assert result.sustained_latency_us == pytest.approx(50.0)
    assert result.n_steps >= 5


def test_the_interval_covers_the_truth_and_is_narrow() -> None:
    result = measured()
    assert result.energy_mj is not None and result.ci95_mj is not None
    assert abs(result.energy_mj - 15.0) <= result.ci95_mj
    assert result.ci95_mj < 0.05 * result.energy_mj


@pytest.mark.parametrize("period_ms", [1.0, 20.0, 100.0])
def test_any_counter_period_gives_the_same_energy(period_ms: float) -> None:
    result = measured(period_ms=period_ms, call_ms=0.01)
    assert result.energy_mj == pytest.approx(15.0, rel=0.02)


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        ("lost", Verdict.METER_LOST),
        ("reset", Verdict.COUNTER_RESET),
    ],
)
def test_a_faulty_meter_gives_no_number(fault: str, verdict: Verdict) -> None:
    result = measured(fault=fault)
    assert result.verdict is verdict
    assert result.energy_mj is None
    assert result.reason


def test_a_counter_that_never_moves_is_stalled() -> None:
    result = measured(fault="stall", fault_at_s=0.0)
    assert result.verdict is Verdict.COUNTER_STALLED
    assert result.energy_mj is None


def test_a_counter_that_stops_leaves_the_window_too_short() -> None:
    assert measured(fault="stall", fault_at_s=0.45).verdict is Verdict.TOO_SHORT


def test_other_processes_on_the_device_refuse_the_number() -> None:
    foreign = [DeviceState(n_foreign_processes=1), DeviceState()]
    assert measured(states=foreign).verdict is Verdict.FOREIGN_LOAD


def test_a_changed_clock_refuses_the_number() -> None:
    states = [DeviceState(clock_mhz=1980), DeviceState(clock_mhz=1200)]
    result = measured(states=states)
    assert result.verdict is Verdict.CLOCK_CHANGED
    assert result.conditions.clock_mhz == (1980, 1200)


def test_at_the_power_limit_a_moving_clock_is_labelled_not_refused() -> None:
    capped = DeviceState(clock_mhz=1500, throttle_reasons=("sw_power_cap",))
    result = measured(states=[DeviceState(clock_mhz=1980), capped])
    assert result.verdict is Verdict.POWER_CAPPED
    assert result.energy_mj is not None


def test_thermal_slowdown_refuses_the_number() -> None:
    hot = DeviceState(clock_mhz=1980, throttle_reasons=("hw_thermal",))
    assert measured(states=[hot, hot]).verdict is Verdict.CLOCK_CHANGED


def test_energy_between_two_steps_is_worked_out_by_hand() -> None:
    # 100 J between the outer steps at 1.0 s and 3.0 s: 50 W; 1000 launches in 1.6 s busy
    # time: 1600 us each; 50 W * 1600 us = 80 mJ.
    rows = [(0.5, 0, 0), (1.0, 10, 100), (2.0, 60, 600), (3.0, 110, 1100), (3.5, 110, 1300)]
    readings = [
        Reading(time_s=t, counter_mj=joules * 1000.0, n_launches=n, busy_us=n * 1600.0)
        for t, joules, n in rows
    ]
    observation = Observation(readings=readings, states=[DeviceState()])
    result = evaluate(observation, window_ms=2000.0, meter="simulated")
    assert result.energy_mj == pytest.approx(80.0)
    assert result.window_energy_mj == pytest.approx(100_000.0)
    assert result.window_ms == pytest.approx(2000.0)
    assert result.n_steps == 3


def test_no_meter_is_recorded_as_unmeasured_with_the_reason() -> None:
    result = energy.unmeasured(NoMeter("turned off."))
    assert (result.verdict, result.energy_mj, result.reason) == (
        Verdict.UNMEASURED,
        None,
        "turned off.",
    )
    assert energy.unmeasured(NoMeter("x", denied=True)).verdict is Verdict.NO_PERMISSION

from __future__ import annotations

import pytest

from effcompile.measure import energy
from effcompile.measure.energy import Effort, Observation, evaluate, observe
from effcompile.measure.meters import DeviceState, NoMeter
from effcompile.measure.windows import NO_EXPERIENCE, Experience, Reading
from search.trial import EnergyMeasurement, Verdict
from tests.simulated_meter import Clock, SimulatedLoad, SimulatedMeter

EFFORT = Effort(window_ms=500.0, settle_ms=1000.0)


def measured(
    effort: Effort = EFFORT, experience: Experience = NO_EXPERIENCE, **meter_options: object
) -> EnergyMeasurement:
    clock = Clock()
    load = SimulatedLoad(clock)
    meter = SimulatedMeter(clock, **meter_options)
    observation = observe(load, meter, effort=effort, experience=experience, clock=clock)
    assert load.finished
    return evaluate(observation, effort=effort, experience=experience, meter=meter.name)


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


def test_a_counter_that_stops_in_the_middle_is_stalled() -> None:
    result = measured(fault="stall", fault_at_s=0.45)
    assert (result.verdict, result.energy_mj) == (Verdict.COUNTER_STALLED, None)
    assert "stopped after 4 steps" in result.reason


def test_a_window_in_which_no_launch_finished_is_too_short() -> None:
    rows = [(float(i), 50_000.0 * i) for i in range(5)]
    readings = [Reading(time_s=t, counter_mj=c, n_launches=7, busy_us=9.0) for t, c in rows]
    observation = Observation(readings=readings, states=[DeviceState()])
    result = evaluate(observation, effort=Effort(window_ms=3000.0), meter="simulated")
    assert (result.verdict, result.energy_mj) == (Verdict.TOO_SHORT, None)


def test_too_few_steps_for_a_window_are_too_short() -> None:
    rows = [(float(i), 50_000.0 * i) for i in range(3)]
    readings = [Reading(time_s=t, counter_mj=c, n_launches=7, busy_us=9.0) for t, c in rows]
    observation = Observation(readings=readings, states=[DeviceState()])
    result = evaluate(observation, effort=Effort(window_ms=3000.0), meter="simulated")
    assert (result.verdict, result.energy_mj) == (Verdict.TOO_SHORT, None)


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


def test_thermal_slowdown_by_the_end_of_the_window_is_seen() -> None:
    cool = DeviceState(clock_mhz=1980)
    hot = DeviceState(clock_mhz=1980, throttle_reasons=("sw_thermal",))
    assert measured(states=[cool, hot]).verdict is Verdict.CLOCK_CHANGED


def test_a_power_limit_that_somebody_changed_refuses_the_number() -> None:
    states = [DeviceState(power_limit_w=700.0), DeviceState(power_limit_w=500.0)]
    result = measured(states=states)
    assert result.verdict is Verdict.LIMIT_CHANGED
    assert "700" in result.reason and "500" in result.reason


def test_the_window_opens_only_when_power_has_risen() -> None:
    # 1 - exp(-t/80 ms) leaves 8 % of the rise after 200 ms: a fixed wait would read low.
    result = measured(rise_s=0.08)
    assert result.verdict is Verdict.OK
    assert result.energy_mj == pytest.approx(15.0, rel=0.01)


def test_power_that_is_already_there_is_not_waited_for() -> None:
    effort = Effort(window_ms=300.0)
    carried_over, risen = measured(effort), measured(effort, rise_s=0.08)
    assert carried_over.load_ms < 420.0
    assert risen.load_ms > carried_over.load_ms + 90.0


def test_power_that_never_settles_gives_no_number() -> None:
    result = measured(ramp_w_per_s=300.0)
    assert result.verdict is Verdict.UNSETTLED
    assert result.energy_mj is None
    assert "%" in result.reason


def test_a_window_closes_as_soon_as_it_is_precise_enough() -> None:
    experience = Experience(period_s=0.1, scatter_share=0.002, n_degrees=10)
    long = measured(Effort(window_ms=2000.0), experience)
    short = measured(Effort(window_ms=2000.0, precision=0.01), experience)
    assert long.window_ms == pytest.approx(2000.0)
    assert short.window_ms == pytest.approx(200.0)
    assert short.ci95_mj is not None and short.energy_mj is not None
    assert short.ci95_mj <= 0.01 * short.energy_mj


def test_a_candidate_that_cannot_matter_is_not_looked_at_longer() -> None:
    # 15 mJ: with a limit of 10 mJ it has lost, with one of 20 mJ it has not.
    lost = measured(Effort(window_ms=2000.0, matters_below_mj=10.0))
    alive = measured(Effort(window_ms=2000.0, matters_below_mj=20.0))
    assert lost.window_ms < 500.0
    assert alive.window_ms == pytest.approx(2000.0, rel=0.05)


def test_a_known_beat_takes_late_sightings_out_of_the_power() -> None:
    # Polls of 31 ms see steps up to a third of a period late.
    options = {"call_ms": 30.0, "period_ms": 99.0}
    seen = measured(Effort(window_ms=300.0), **options)
    known = measured(Effort(window_ms=300.0), Experience(period_s=0.099), **options)
    assert known.power_w == pytest.approx(300.0, rel=1e-6)
    assert seen.power_w != pytest.approx(300.0, rel=1e-3)
    assert seen.energy_mj is not None and seen.ci95_mj is not None
    assert abs(seen.energy_mj - 15.0) <= seen.ci95_mj


def test_energy_between_steps_is_worked_out_by_hand() -> None:
    # 150 J between the outer steps at 1.0 s and 4.0 s: 50 W; 1500 launches in 2.4 s busy
    # time: 1600 us each; 50 W * 1600 us = 80 mJ.
    rows = [(0.5, 0, 0), (1.0, 10, 100), (2.0, 60, 600), (3.0, 110, 1100), (4.0, 160, 1600)]
    readings = [
        Reading(time_s=t, counter_mj=joules * 1000.0, n_launches=n, busy_us=n * 1600.0)
        for t, joules, n in rows
    ]
    observation = Observation(readings=readings, states=[DeviceState()])
    result = evaluate(observation, effort=Effort(window_ms=3000.0), meter="simulated")
    assert result.energy_mj == pytest.approx(80.0)
    assert result.window_energy_mj == pytest.approx(150_000.0)
    assert result.window_ms == pytest.approx(3000.0)
    assert result.n_steps == 4
    assert result.load_ms == pytest.approx(3500.0)


def test_no_meter_is_recorded_as_unmeasured_with_the_reason() -> None:
    result = energy.unmeasured(NoMeter("turned off."))
    assert (result.verdict, result.energy_mj, result.reason) == (
        Verdict.UNMEASURED,
        None,
        "turned off.",
    )
    assert energy.unmeasured(NoMeter("x", denied=True)).verdict is Verdict.NO_PERMISSION


class Regulated(SimulatedMeter):
    """At its limit of 700 W: too much for 0.35 s, too little until 1.2 s, then the limit."""

    def _joules(self, since_s: float) -> float:
        early, low = min(since_s, 0.35), min(max(since_s - 0.35, 0.0), 0.85)
        return 770.0 * early + 600.0 * low + 700.0 * max(since_s - 1.2, 0.0)

    def state(self) -> DeviceState:
        return DeviceState(clock_mhz=1400, power_limit_w=700.0, throttle_reasons=("sw_power_cap",))


def test_power_that_swings_around_its_limit_is_waited_for() -> None:
    clock = Clock()
    meter = Regulated(clock)
    effort = Effort(window_ms=300.0, settle_ms=1000.0)
    seen = observe(SimulatedLoad(clock), meter, effort=effort, clock=clock)
    result = evaluate(seen, effort=effort, meter=meter.name)
    assert result.verdict is Verdict.POWER_CAPPED
    assert result.power_w == pytest.approx(700.0, rel=0.02)
    assert 1400.0 < result.load_ms < 2000.0


def test_a_limit_that_board_power_does_not_show_is_waited_for_no_longer_than_that() -> None:
    other = DeviceState(power_limit_w=700.0, throttle_reasons=("sw_power_cap",))
    result = measured(load_w=560.0, states=[other] * 100)
    assert result.verdict is Verdict.POWER_CAPPED
    assert result.power_w == pytest.approx(560.0, rel=0.01)
    assert 3000.0 <= result.load_ms < 3300.0


def test_a_load_below_the_limit_waits_for_nothing() -> None:
    free = DeviceState(power_limit_w=700.0)
    assert measured(load_w=560.0, states=[free] * 9).load_ms < 800.0


class Swinging(Regulated):
    """At its limit of 700 W on average, 100 W more and less in turns of a second each."""

    def _joules(self, since_s: float) -> float:
        turns, rest = divmod(since_s, 2.0)
        return 1400.0 * turns + 800.0 * min(rest, 1.0) + 600.0 * max(rest - 1.0, 0.0)


def test_power_that_never_stops_swinging_is_averaged_over_seconds() -> None:
    clock = Clock()
    effort = Effort(window_ms=300.0, settle_ms=1000.0)
    seen = observe(SimulatedLoad(clock), Swinging(clock), effort=effort, clock=clock)
    result = evaluate(seen, effort=effort, meter="simulated")
    assert result.verdict is Verdict.POWER_CAPPED
    assert result.power_w == pytest.approx(700.0, rel=0.06)
    assert result.window_ms > 2000.0
    assert result.ci95_mj is not None and result.energy_mj is not None
    assert result.ci95_mj > 0.03 * result.energy_mj


def test_a_short_patience_at_the_limit_makes_a_short_window() -> None:
    clock = Clock()
    effort = Effort(window_ms=300.0, settle_ms=200.0)
    seen = observe(SimulatedLoad(clock), Swinging(clock), effort=effort, clock=clock)
    result = evaluate(seen, effort=effort, meter="simulated")
    assert result.verdict is Verdict.POWER_CAPPED
    assert result.load_ms < 800.0

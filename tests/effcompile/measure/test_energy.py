from __future__ import annotations

from dataclasses import dataclass

import pytest

from effcompile.measure import energy
from effcompile.measure.energy import Effort, Observation, evaluate, observe
from effcompile.measure.meters import DeviceState, NoMeter
from effcompile.measure.steps import Reading
from effcompile.measure.windows import NO_EXPERIENCE, Experience
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


@pytest.mark.parametrize("fault_at_s", [0.15, 0.25, 0.3, 0.35, 0.45, 0.55, 0.6])
def test_a_counter_that_steps_back_at_any_time_gives_no_number(fault_at_s: float) -> None:
    result = measured(fault="reset", fault_at_s=fault_at_s)
    assert (result.verdict, result.energy_mj) == (Verdict.COUNTER_RESET, None)


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
    # 150 J between the outer steps, in the middle of the first and of the last second: 50 W;
    # 1500 launches in 2.4 s busy time: 1600 us each; 50 W * 1600 us = 80 mJ.
    rows = [(0.0, 0, 0), (1.0, 10, 100), (2.0, 60, 600), (3.0, 110, 1100), (4.0, 160, 1600)]
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
    assert result.load_ms == pytest.approx(4000.0)


def test_no_meter_is_recorded_as_unmeasured_with_the_reason() -> None:
    result = energy.unmeasured(NoMeter("turned off."))
    assert (result.verdict, result.energy_mj, result.reason) == (
        Verdict.UNMEASURED,
        None,
        "turned off.",
    )
    assert energy.unmeasured(NoMeter("x", denied=True)).verdict is Verdict.NO_PERMISSION


@dataclass
class HeldMeter(SimulatedMeter):
    """Held at a limit of 700 W by a controller that swings, as seen on an H100: 770 W for 0.6 s of
    every 1.1 s, 540 W for the rest.
    """

    begin_s: float = 0.0
    reasons: tuple[str, ...] = ("sw_power_cap",)

    def power_at(self, since_s: float) -> float:
        return 770.0 if (since_s + self.begin_s) % 1.1 < 0.6 else 540.0

    def _joules(self, since_s: float) -> float:
        return sum(self.power_at(0.001 * i) for i in range(round(since_s * 1000))) / 1000

    def state(self) -> DeviceState:
        return DeviceState(clock_mhz=1400, power_limit_w=700.0, throttle_reasons=self.reasons)


@dataclass
class HeldLoad(SimulatedLoad):
    """50 microseconds at 700 W; time goes with power to the -0.444, as it did there."""

    meter: HeldMeter | None = None

    def advance(self) -> None:
        assert self.meter is not None
        since_s = self.clock() - self.meter.start_s
        self.latency_us = 50.0 * (self.meter.power_at(since_s) / 700.0) ** -0.444
        super().advance()


def held(effort: Effort, begin_s: float, **changed: object) -> EnergyMeasurement:
    clock = Clock()
    meter = HeldMeter(clock, begin_s=begin_s, **changed)
    seen = observe(HeldLoad(clock, meter=meter), meter, effort=effort, clock=clock)
    return evaluate(seen, effort=effort, meter=meter.name)


@pytest.mark.parametrize("begin_s", [0.0, 0.2, 0.4, 0.6, 0.8])
def test_at_the_limit_a_window_waits_for_nothing_and_tells_the_energy_at_rest(
    begin_s: float,
) -> None:
    result = held(Effort(window_ms=300.0), begin_s)
    assert result.verdict is Verdict.POWER_CAPPED
    assert result.load_ms < 700.0
    assert result.steady_mj == pytest.approx(700.0 * 50.0 / 1000, rel=0.02)


def test_a_longer_window_at_the_limit_is_closer() -> None:
    results = [held(Effort(window_ms=1000.0), begin_s) for begin_s in (0.0, 0.3, 0.6, 0.9)]
    assert [one.steady_mj for one in results] == pytest.approx([35.0] * 4, rel=0.01)
    # Power and energy of a swing differ by a fifth; what is compared does not.
    assert all(one.ci95_mj < 0.02 * one.energy_mj for one in results)


def test_power_beyond_the_limit_is_held_even_before_the_driver_says_so() -> None:
    result = held(Effort(window_ms=300.0), 0.0, reasons=())
    assert result.power_w == pytest.approx(770.0, rel=0.01)
    assert result.verdict is Verdict.POWER_CAPPED


@pytest.mark.parametrize("load_w", [400.0, 560.0])
def test_a_load_below_the_limit_waits_for_nothing(load_w: float) -> None:
    free = DeviceState(power_limit_w=700.0)
    result = measured(load_w=load_w, states=[free] * 99)
    assert result.verdict is Verdict.OK
    assert result.load_ms < 800.0


def test_a_limit_that_board_power_does_not_show_changes_no_number() -> None:
    other = DeviceState(power_limit_w=700.0, throttle_reasons=("sw_power_cap",))
    result = measured(load_w=320.0, states=[other] * 100)
    assert result.verdict is Verdict.POWER_CAPPED
    assert result.load_ms < 800.0
    assert result.steady_mj == result.energy_mj == pytest.approx(16.0, rel=0.01)

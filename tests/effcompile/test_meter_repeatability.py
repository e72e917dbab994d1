"""Ratios to an anchor on a simulated device that warms up."""

from __future__ import annotations

import math

import pytest

from effcompile.bench.meter_kernels import KERNELS
from effcompile.bench.meter_repeatability import MOST_WARMING, N_STEADY, Rounds, scatter
from search.trial import Conditions, EnergyMeasurement, Verdict
from tests.simulated_meter import Clock

RISE_S, WARM_W = 4.0, 40.0
POWER_W = {"anchor": 500.0, "copy": 520.0, "matmul": 300.0}
TAKES_S = 1.2


class WarmingDevice:
    """Leakage adds watts to every kernel's power: ``WARM_W`` more once it is warm."""

    def __init__(self, *, drift_per_s: float = 0.0, broken: int = -1) -> None:
        self.clock = Clock()
        self.begin_s = self.clock()
        self.drift_per_s, self.broken = drift_per_s, broken
        self.names: list[str] = []

    def take(self, name: str, window_ms: float) -> EnergyMeasurement:
        assert window_ms == 1000.0
        self.clock.wait(TAKES_S)
        since_s = self.clock() - self.begin_s
        leak_w = WARM_W * (1 - math.exp(-since_s / RISE_S))
        power_w = (POWER_W[name] + leak_w) * (1 + self.drift_per_s * since_s)
        self.names.append(name)
        is_broken = len(self.names) == self.broken
        return EnergyMeasurement(
            energy_mj=None if is_broken else power_w / 10,
            power_w=power_w,
            sustained_latency_us=100.0,
            meter="simulated",
            verdict=Verdict.OK,
            conditions=Conditions(temperature_c=(30, 31), clock_mhz=(1980,)),
        )

    def rounds(self, pause_s: float = 0.0) -> Rounds:
        return Rounds(self.take, pause_s=pause_s, clock=self.clock)


def test_what_all_kernels_share_is_not_in_the_ratio() -> None:
    rounds = WarmingDevice(drift_per_s=2e-4).rounds()
    rounds.warm_up()
    rounds.run(10)
    assert [row.kernel for row in rounds.rows()] == list(KERNELS)
    for row in rounds.rows():
        assert row.n_windows == 10
        assert row.energy_scatter > 0.002 > row.ratio_scatter


def test_a_device_that_is_still_cold_scatters_more() -> None:
    cold, warm = WarmingDevice().rounds(), WarmingDevice().rounds()
    warm.warm_up()
    cold.run(10)
    warm.run(10)
    worst = {"cold": cold.rows()[1].ratio_scatter, "warm": warm.rows()[1].ratio_scatter}
    assert worst["cold"] > 0.003 > 3 * worst["warm"]


def test_the_anchor_runs_until_it_repeats_and_not_for_ever() -> None:
    device = WarmingDevice()
    device.rounds().warm_up()
    assert N_STEADY < len(device.names) < MOST_WARMING
    hot = WarmingDevice(drift_per_s=0.01)
    hot.rounds().warm_up()
    assert hot.names == ["anchor"] * MOST_WARMING


def test_the_device_never_rests_and_every_kernel_stands_between_two_anchors() -> None:
    device = WarmingDevice()
    rounds = device.rounds(pause_s=10.0)
    rounds.run(3)
    assert len(device.names) * TAKES_S == pytest.approx(device.clock() - device.begin_s)
    assert device.clock() - device.begin_s == pytest.approx(30.0, abs=2 * TAKES_S)
    for index, name in enumerate(device.names):
        if name != "anchor":
            assert device.names[index - 1] == device.names[index + 1] == "anchor"
    (copy, matmul) = rounds.rows()
    assert copy.n_windows == matmul.n_windows == 3
    assert copy.minutes == pytest.approx(20.0 / 60, abs=0.05)


def test_a_window_without_a_number_costs_its_own_ratio_alone() -> None:
    rounds = WarmingDevice(broken=4).rounds()  # anchor, copy, anchor, matmul
    rounds.run(3)
    (copy, matmul) = rounds.rows()
    assert (copy.n_windows, matmul.n_windows) == (3, 2)


def test_scatter_is_relative() -> None:
    assert scatter([9.0, 11.0]) == pytest.approx(2**0.5 / 10)
    assert scatter([5.0]) == 0.0

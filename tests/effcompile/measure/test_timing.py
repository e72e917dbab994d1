from __future__ import annotations

import pytest

from effcompile.config import MeasureConfig
from effcompile.measure.timing import (
    HostStopwatch,
    measure_latency,
    n_copies_for,
    n_launches_for,
    plan,
)
from search.trial import Verdict


class ScriptedBatch:
    method = "graph"

    def __init__(self, n_launches: int, times_us: list[float]) -> None:
        self.n_launches = n_launches
        self._times_us = times_us

    def run_us(self) -> float:
        return self.n_launches * (self._times_us.pop(0) if self._times_us else 100.0)


class ScriptedStopwatch:
    """First runs and warm-up take long, the rest 100 us per launch."""

    def __init__(self, slow_us: list[float]) -> None:
        self._slow_us = slow_us

    def batch(self, launches: object, n_launches: int) -> ScriptedBatch:
        del launches
        return ScriptedBatch(n_launches, self._slow_us)


def test_launches_fill_a_repeat() -> None:
    planned = plan(100.0, MeasureConfig(repeat_ms=2.0, n_repeats=10))
    assert (planned.n_launches, planned.n_repeats) == (20, 10)


def test_a_slow_kernel_gets_fewer_repeats() -> None:
    planned = plan(120_000.0, MeasureConfig(n_repeats=10, max_timing_ms=500.0))
    assert (planned.n_launches, planned.n_repeats, planned.n_warm_up) == (1, 4, 0)


def test_a_very_slow_kernel_still_gets_two() -> None:
    assert plan(3e6, MeasureConfig(max_timing_ms=500.0)).n_repeats == 2


def test_a_kernel_slower_than_a_whole_timing_runs_twice() -> None:
    # A third run would find nothing left of the script and take 100 us.
    stopwatch = ScriptedStopwatch([3e6, 3.2e6])
    measured = measure_latency(stopwatch, [lambda: None], MeasureConfig(max_timing_ms=500.0))
    assert (measured.latency_us, measured.n_repeats, measured.n_launches) == (3.1e6, 2, 1)


def test_warm_up_is_not_counted() -> None:
    # Two probes at 100 us, then one warm-up at 900 us per launch, then steady.
    stopwatch = ScriptedStopwatch([100.0, 100.0, 900.0])
    measured = measure_latency(stopwatch, [lambda: None], MeasureConfig(n_repeats=10))
    assert (measured.latency_us, measured.ci95_us) == (100.0, 0.0)
    assert measured.method == "graph"
    assert measured.verdict is Verdict.OK


def test_repeats_that_scatter_wildly_are_unstable() -> None:
    scatter = [100.0, 100.0, 100.0] + [10.0, 1000.0] * 15
    measured = measure_latency(
        ScriptedStopwatch(scatter), [lambda: None], MeasureConfig(n_repeats=10)
    )
    assert measured.verdict is Verdict.UNSTABLE


def test_a_disturbance_that_passes_is_measured_again() -> None:
    scatter = [100.0, 100.0, 100.0] + [10.0, 1000.0] * 5
    measured = measure_latency(
        ScriptedStopwatch(scatter), [lambda: None], MeasureConfig(n_repeats=10)
    )
    assert (measured.latency_us, measured.verdict) == (100.0, Verdict.OK)


def test_a_loop_goes_through_the_buffer_sets_in_turn() -> None:
    seen: list[str] = []
    HostStopwatch().batch([lambda: seen.append("a"), lambda: seen.append("b")], 5).run_us()
    assert seen == ["a", "b", "a", "b", "a"]


@pytest.mark.parametrize(("footprint", "copies"), [(30, 7), (100, 2), (300, 1)])
def test_cold_copies_cover_twice_the_cache(footprint: int, copies: int) -> None:
    cold = MeasureConfig(cache="cold")
    assert n_copies_for(cold, footprint_bytes=footprint, cache_bytes=100) == copies


def test_hot_uses_one_set() -> None:
    assert n_copies_for(MeasureConfig(), footprint_bytes=1, cache_bytes=100) == 1


class TestLaunchesOfABatch:
    def test_the_first_run_of_a_batch_does_not_count(self) -> None:
        # Alone 40 us; of 32, the first run takes 8 us each and the second 1.
        stopwatch = ScriptedStopwatch([40.0, 8.0, 1.0])
        assert n_launches_for(stopwatch, [], 5000.0) == 5000

    def test_a_long_kernel_is_run_once(self) -> None:
        stopwatch = ScriptedStopwatch([2500.0])
        assert n_launches_for(stopwatch, [], 5000.0) == 2
        assert n_launches_for(ScriptedStopwatch([9000.0]), [], 5000.0) == 1

from __future__ import annotations

from dataclasses import replace

import pytest

from search.comparison import decide, ratio_of
from search.final import Finalist, Ratio
from search.ports import FinalMeasurement
from search.trial import Failure, TrialState
from tests.search.makers import energy, latency


def finalist(
    trial_id: int, latency_rounds: list[float], energy_rounds: list[float] | None = None
) -> Finalist:
    measurement = FinalMeasurement(
        latency=latency(100.0 * latency_rounds[0]),
        energy=energy(),
        latency_ratios=tuple(latency_rounds),
    )
    return Finalist(
        trial_id=trial_id,
        measurement=measurement,
        latency_ratio=ratio_of(latency_rounds),
        energy_ratio=ratio_of(energy_rounds or []),
    )


DEFAULT = finalist(1, [1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
STEADY = [0.001, 0.0, -0.001]


def around(value: float, noise: float = 1.0) -> list[float]:
    return [value + noise * one for one in STEADY]


def under_load(one: Finalist, sustained_rounds: list[float]) -> Finalist:
    return replace(one, sustained_ratio=ratio_of(sustained_rounds))


def test_a_kernel_that_is_throttled_under_lasting_load_cannot_win_by_its_burst() -> None:
    hungry = under_load(finalist(2, around(0.90), around(0.80)), around(1.05))
    steady = under_load(finalist(3, around(0.95), around(0.85)), around(0.95))
    assert decide(DEFAULT, [hungry, steady], max_slowdown=0.02).trial_id == 3
    # Judged by bursts alone it would have been the other one.
    bursts = [replace(one, sustained_ratio=None) for one in (hungry, steady)]
    assert decide(DEFAULT, bursts, max_slowdown=0.06).trial_id == 2


def test_interval_is_students_on_logarithms() -> None:
    # Logs -0.1, 0, 0.1: mean 0, standard error 0.1 / sqrt(3), t(0.975, 2) = 4.3027.
    ratio = ratio_of([0.9048374180, 1.0, 1.1051709181])
    assert ratio is not None
    assert ratio.median == 1.0
    assert ratio.high == pytest.approx(1.28198, rel=1e-4)
    assert ratio.low == pytest.approx(1 / 1.28198, rel=1e-4)
    assert ratio.is_tie


def test_one_round_shows_nothing() -> None:
    ratio = ratio_of([0.5])
    assert ratio is not None
    assert ratio.is_tie


def test_no_rounds_no_ratio() -> None:
    assert ratio_of([]) is None


def test_least_energy_wins_within_the_limit() -> None:
    fast = finalist(2, around(0.50), around(0.60))
    frugal = finalist(3, around(0.505), around(0.50))
    slow = finalist(4, around(0.60), around(0.40))
    decision = decide(DEFAULT, [fast, frugal, slow], max_slowdown=0.02)
    assert (decision.trial_id, decision.criterion, decision.is_tie) == (3, "energy", False)


def test_a_difference_inside_the_interval_is_a_tie_and_keeps_the_default() -> None:
    noisy = finalist(2, around(0.99, 30.0), around(0.99, 30.0))
    decision = decide(DEFAULT, [noisy], max_slowdown=0.02)
    assert (decision.trial_id, decision.is_tie) == (1, True)


def test_equal_energy_and_less_time_wins() -> None:
    faster = finalist(2, around(0.9), around(1.0, 30.0))
    decision = decide(DEFAULT, [faster], max_slowdown=0.5)
    assert (decision.trial_id, decision.is_tie) == (2, False)


def test_more_energy_than_an_allowed_default_never_wins() -> None:
    hungry = finalist(2, around(0.95), around(1.2))
    assert decide(DEFAULT, [hungry], max_slowdown=0.1).trial_id == 1


def test_a_default_beyond_the_limit_yields_to_the_faster_one() -> None:
    hungry = finalist(2, around(0.5), around(1.2))
    assert decide(DEFAULT, [hungry], max_slowdown=0.02).trial_id == 2


def test_without_energy_the_fastest_wins_by_latency() -> None:
    default = finalist(1, around(1.0))
    decision = decide(default, [finalist(2, around(0.8)), finalist(3, around(0.7))], max_slowdown=0)
    assert (decision.trial_id, decision.criterion) == (3, "latency")


def test_failed_finalists_cannot_win() -> None:
    failure = Failure(state=TrialState.RUN_ERROR, message="gone")
    failed = Finalist(trial_id=2, failure=failure)
    assert decide(DEFAULT, [failed], max_slowdown=0.02).trial_id == 1


def test_a_default_that_fails_yields_to_whoever_ran() -> None:
    failure = Failure(state=TrialState.RUN_ERROR, message="gone")
    default = Finalist(trial_id=1, failure=failure)
    assert decide(default, [finalist(2, [0.9])], max_slowdown=0.02).trial_id == 2
    assert decide(default, [], max_slowdown=0.02).trial_id == 1


def test_one_disturbed_round_of_many_does_not_widen_the_interval() -> None:
    rounds = [0.50, 0.51, 0.52, 0.53, 0.54, 0.55, 0.56, 0.57, 9.0]
    ratio = ratio_of(rounds)
    # Of nine, the second and the eighth: P(fewer than two of nine below the median) = 1.95 %.
    assert ratio == Ratio(median=0.54, low=0.51, high=0.57)

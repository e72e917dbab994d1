from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from search.objective import Point
from search.pareto import front, hypervolume

POINTS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=15)


def points(*pairs: tuple[float, float | None]) -> list[Point]:
    return [Point(trial_id=i + 1, latency_us=a, energy_mj=b) for i, (a, b) in enumerate(pairs)]


def test_dominated_points_and_points_without_energy_are_left_out() -> None:
    found = front(points((1.0, 9.0), (2.0, 5.0), (3.0, 6.0), (4.0, 1.0), (0.5, None)))
    assert [one.trial_id for one in found] == [1, 2, 4]


def test_of_equal_points_the_earliest_stays() -> None:
    assert [one.trial_id for one in front(points((1.0, 1.0), (1.0, 1.0)))] == [1]


def test_equal_latency_keeps_the_lower_energy() -> None:
    assert [one.trial_id for one in front(points((1.0, 3.0), (1.0, 2.0)))] == [2]


def test_hypervolume_of_two_steps() -> None:
    # Reference (4, 4): 3 x 1 for the point (1, 3), then 2 x 2 below it for (2, 1).
    found = front(points((1.0, 3.0), (2.0, 1.0)))
    assert hypervolume(found, latency_us=4.0, energy_mj=4.0) == 3.0 * 1.0 + 2.0 * 2.0


def test_points_beyond_the_reference_add_nothing() -> None:
    found = front(points((1.0, 9.0), (5.0, 1.0)))
    assert hypervolume(found, latency_us=4.0, energy_mj=4.0) == 0.0


@given(POINTS)
def test_no_point_beats_a_point_of_the_front(pairs: list[tuple[int, int]]) -> None:
    every = points(*pairs)
    for kept in front(every):
        for one in every:
            assert one.energy_mj is not None
            at_least = one.latency_us <= kept.latency_us and one.energy_mj <= kept.energy_mj
            better = one.latency_us < kept.latency_us or one.energy_mj < kept.energy_mj
            assert not (at_least and better)


@given(POINTS, st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_one_more_point_never_shrinks_the_hypervolume(
    pairs: list[tuple[int, int]], extra: tuple[int, int]
) -> None:
    before = hypervolume(front(points(*pairs)), latency_us=10.0, energy_mj=10.0)
    after = hypervolume(front(points(*pairs, extra)), latency_us=10.0, energy_mj=10.0)
    assert after >= before

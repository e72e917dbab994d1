from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from search.objective import Point, choose, rank


def point(trial_id: int, latency_us: float, energy_mj: float | None = None) -> Point:
    return Point(trial_id=trial_id, latency_us=latency_us, energy_mj=energy_mj)


def ids(points: list[Point], max_slowdown: float = 0.02) -> list[int]:
    return [one.trial_id for one in rank(points, max_slowdown=max_slowdown)]


def test_least_energy_wins_within_the_latency_limit() -> None:
    points = [point(1, 100.0, 50.0), point(2, 101.9, 40.0), point(3, 102.1, 10.0)]
    assert ids(points) == [2, 1, 3]
    choice = choose(points, max_slowdown=0.02)
    assert choice is not None
    assert (choice.point.trial_id, choice.criterion) == (2, "energy")


def test_without_energies_the_fastest_wins_and_says_so() -> None:
    choice = choose([point(1, 102.0), point(2, 100.0)], max_slowdown=0.1)
    assert choice is not None
    assert (choice.point.trial_id, choice.criterion) == (2, "latency")


def test_an_energy_beyond_the_limit_does_not_count() -> None:
    choice = choose([point(1, 100.0), point(2, 150.0, 1.0)], max_slowdown=0.02)
    assert choice is not None
    assert (choice.point.trial_id, choice.criterion) == (1, "latency")


def test_within_the_limit_a_measured_energy_comes_before_an_unknown_one() -> None:
    assert ids([point(1, 100.0), point(2, 101.0, 99.0)]) == [2, 1]


def test_ties_go_to_the_lower_latency_then_to_the_earlier_trial() -> None:
    points = [point(3, 101.0, 5.0), point(2, 100.0, 5.0), point(1, 101.0, 5.0)]
    assert ids(points) == [2, 1, 3]


def test_nothing_measured_nothing_chosen() -> None:
    assert choose([], max_slowdown=0.02) is None


@given(
    st.lists(
        st.tuples(st.floats(1.0, 9.0), st.one_of(st.none(), st.floats(1.0, 9.0))), max_size=12
    ),
    st.randoms(use_true_random=False),
)
def test_order_of_the_points_does_not_matter(
    numbers: list[tuple[float, float | None]], random: object
) -> None:
    points = [point(i, *pair) for i, pair in enumerate(numbers)]
    shuffled = points[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert ids(points) == ids(shuffled)


def test_lasting_load_decides_who_is_within_the_limit() -> None:
    # Equal in bursts; the second is throttled under lasting load, and frugal there.
    steady = Point(trial_id=1, latency_us=100.0, energy_mj=50.0, sustained_us=100.0)
    throttled = Point(trial_id=2, latency_us=100.0, energy_mj=40.0, sustained_us=105.0)
    choice = choose([steady, throttled], max_slowdown=0.02)
    assert choice is not None and choice.point.trial_id == 1


def test_a_point_without_lasting_latency_is_neither_favoured_nor_punished() -> None:
    # Both measured points take 10 % longer under lasting load; so will the third.
    first = Point(trial_id=1, latency_us=100.0, energy_mj=50.0, sustained_us=110.0)
    second = Point(trial_id=2, latency_us=101.0, energy_mj=45.0, sustained_us=111.1)
    unknown = Point(trial_id=3, latency_us=99.5)
    slower = Point(trial_id=4, latency_us=103.0)
    ranked = rank([slower, unknown, first, second], max_slowdown=0.02)
    assert [one.trial_id for one in ranked] == [2, 1, 3, 4]

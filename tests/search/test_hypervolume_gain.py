from __future__ import annotations

import numpy as np
import pytest

from search.final import FrontPoint
from search.hypervolume_gain import gain_of, pick_by_gain, staircase
from search.objective import Point
from search.pareto import front, hypervolume

REFERENCE = (10.0, 10.0)
FRONT = np.array([[2.0, 6.0], [5.0, 3.0]])


def gains(*points: tuple[float, float]) -> list[float]:
    latency, energy = np.array(points).T
    return [float(g) for g in gain_of(staircase(FRONT, REFERENCE), 10.0, latency, energy)]


def test_gain_is_the_area_below_the_steps() -> None:
    # Before the front: 1 x (10 - 7) to its left. Between: (5 - 3) x (6 - 4).
    # Below all: 5 x (3 - 1) from 5 on, 3 x (6 - 1), and 1 x (10 - 1).
    assert gains((1.0, 7.0), (3.0, 4.0), (1.0, 1.0)) == [3.0, 4.0, 9.0 + 15.0 + 10.0]


def test_dominated_and_outside_points_add_nothing() -> None:
    assert gains((6.0, 6.0), (11.0, 1.0), (1.0, 11.0), (2.0, 6.0)) == [0.0] * 4


@pytest.mark.parametrize("seed", range(10))
def test_equals_the_difference_of_hypervolumes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    known, new = 12.0 * rng.random((8, 2)), 12.0 * rng.random((20, 2))

    def area(points: np.ndarray) -> float:
        placed = [
            Point(trial_id=i, latency_us=float(x), energy_mj=float(y))
            for i, (x, y) in enumerate(points)
        ]
        steps: tuple[FrontPoint, ...] = front(placed)
        return hypervolume(steps, latency_us=10.0, energy_mj=10.0)

    found = gain_of(staircase(known, REFERENCE), 10.0, new[:, 0], new[:, 1])
    expected = [area(np.vstack([known, [one]])) - area(known) for one in new]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_batch_does_not_buy_the_same_improvement_twice() -> None:
    # Two copies of the best and a smaller gain elsewhere.
    latency = np.array([[3.0, 3.0, 1.0]])
    energy = np.array([[4.0, 4.0, 8.0]])
    assert pick_by_gain(latency, energy, FRONT, REFERENCE, 3) == [0, 2]


def test_an_uncertain_candidate_may_go_before_a_sure_small_gain() -> None:
    latency = np.array([[4.9, 5.0], [4.9, 5.0]])
    # Surely 2.9 at 4.9; or 0 or 6 at 5.0, on average no gain by its mean alone.
    energy = np.array([[2.9, 0.0], [2.9, 6.0]])
    assert pick_by_gain(latency, energy, FRONT, REFERENCE, 1) == [1]

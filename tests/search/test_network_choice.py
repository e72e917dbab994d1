"""One candidate per task within the latency budget of the network."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import search.network_choice
from schedules.candidate import Candidate
from search.config import SearchConfig
from search.database import Database
from search.final import FrontPoint
from search.network_choice import TaskFront, choose_network
from search.network_winners import network_winners
from tests.doubles import energy_mj, latency_us
from tests.simulated_recording import simulated_run


def front(task_id: str, *points: tuple[float, float], weight: int = 1) -> TaskFront:
    return TaskFront(
        task_id=task_id,
        weight=weight,
        points=[
            FrontPoint(trial_id=i, latency_us=latency, energy_mj=energy)
            for i, (latency, energy) in enumerate(points)
        ],
    )


def test_slack_is_spent_where_it_saves_most() -> None:
    fronts = [front("a", (10, 5), (11, 4.9)), front("b", (10, 5), (11, 2))]
    choice = choose_network(fronts, budget_us=21.0)
    assert choice is not None
    assert {name: point.trial_id for name, point in choice.points.items()} == {"a": 0, "b": 1}
    assert (choice.latency_us, choice.energy_mj, choice.is_exact) == (21.0, 7.0, True)


def test_weights_count_in_both_sums() -> None:
    fronts = [front("a", (10, 5), (11, 4), weight=3), front("b", (10, 5), (13, 2.5))]
    choice = choose_network(fronts, budget_us=43.0)
    assert choice is not None
    # Three microseconds save 3 x 1 mJ in a, or 2.5 mJ in b.
    assert {name: point.trial_id for name, point in choice.points.items()} == {"a": 1, "b": 0}


def test_a_budget_below_the_fastest_cannot_be_met() -> None:
    assert choose_network([front("a", (10, 5))], budget_us=9.9) is None
    exact = choose_network([front("a", (10, 5))], budget_us=10.0)
    assert exact is not None and exact.energy_mj == 5.0


def random_fronts(seed: int, n_tasks: int = 5, n_points: int = 4) -> list[TaskFront]:
    rng = np.random.default_rng(seed)
    return [
        front(
            str(i),
            *zip(
                np.sort(rng.random(n_points)) + 1,
                np.sort(rng.random(n_points))[::-1] + 1,
                strict=True,
            ),
            weight=int(rng.integers(1, 4)),
        )
        for i in range(n_tasks)
    ]


def by_hand(fronts: list[TaskFront], budget_us: float) -> float:
    sums = []
    for points in itertools.product(*(one.points for one in fronts)):
        pairs = list(zip(fronts, points, strict=True))
        if sum(one.weight * p.latency_us for one, p in pairs) <= budget_us:
            sums.append(sum(one.weight * p.energy_mj for one, p in pairs))
    return min(sums)


@pytest.mark.parametrize("seed", range(10))
def test_equals_trying_every_combination(seed: int) -> None:
    fronts = random_fronts(seed)
    budget_us = 1.1 * sum(one.weight * one.points[0].latency_us for one in fronts)
    choice = choose_network(fronts, budget_us=budget_us)
    assert choice is not None
    assert choice.energy_mj == pytest.approx(by_hand(fronts, budget_us))
    assert choice.latency_us <= budget_us


def test_one_allowance_for_the_network_saves_more_than_the_same_share_for_every_task() -> None:
    saved, max_slowdown = [], 0.1
    for seed in range(20):
        fronts = random_fronts(seed, n_tasks=8, n_points=12)
        fastest_us = sum(one.weight * one.points[0].latency_us for one in fronts)
        choice = choose_network(fronts, budget_us=fastest_us * (1.0 + max_slowdown))
        assert choice is not None
        alone_mj = 0.0
        for one in fronts:
            limit_us = one.points[0].latency_us * (1.0 + max_slowdown)
            allowed = [point for point in one.points if point.latency_us <= limit_us]
            alone_mj += one.weight * min(point.energy_mj for point in allowed)
        assert choice.energy_mj <= alone_mj + 1e-9
        saved.append(1.0 - choice.energy_mj / alone_mj)
    assert np.mean(saved) > 0.03


@pytest.mark.parametrize("seed", range(10))
def test_a_common_price_stays_within_the_budget_and_close(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search.network_choice, "LARGEST_FRONT", 1)
    fronts = random_fronts(seed, n_tasks=6)
    budget_us = 1.2 * sum(one.weight * one.points[0].latency_us for one in fronts)
    choice = choose_network(fronts, budget_us=budget_us)
    assert choice is not None
    assert not choice.is_exact
    assert choice.latency_us <= budget_us
    assert by_hand(fronts, budget_us) <= choice.energy_mj + 1e-9
    assert choice.energy_mj < sum(one.weight * one.points[0].energy_mj for one in fronts)


def test_a_run_is_chosen_from_as_a_network(tmp_path: Path) -> None:
    run = simulated_run(tmp_path, n_trials=160)
    config = SearchConfig(n_trials=160)
    with Database(run, read_only=True) as database:
        tasks = database.tasks()
        tight, loose = (network_winners(database, config, max_slowdown=s) for s in (0.0, 0.3))
    assert set(tight) == set(loose) == {task.task_id for task in tasks}

    def total(chosen: dict[str, Candidate], of: Callable[[Candidate], float]) -> float:
        return sum(task.weight * of(chosen[task.task_id]) for task in tasks)

    assert total(loose, energy_mj) < total(tight, energy_mj)
    assert total(loose, latency_us) <= 1.3 * total(tight, latency_us) * (1 + 1e-9)

"""Single moves from the front."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from search.config import SearchConfig
from search.evolutionary import Evolutionary
from search.final import FrontPoint
from search.history import TaskHistory
from search.local_search import distinct_front, local_moves
from search.trial import TrialState
from tests.doubles import SimulatedSpace, energy_mj, knobs_of, latency_us, make_task
from tests.search.makers import build, energy, latency, taken, trial_of
from tests.search.test_strategies import NoModels, Oracle

BAND = 0.5


def point(latency_us: float, energy_mj: float) -> FrontPoint:
    return FrontPoint(trial_id=0, latency_us=latency_us, energy_mj=energy_mj)


def history_at(*knobs: tuple[int, ...], with_energy: bool = True) -> TaskHistory:
    history = TaskHistory(make_task(), position=0)
    for i, one in enumerate(knobs):
        candidate = SimulatedSpace().candidate(one)
        trial = trial_of(
            i + 1, candidate=candidate, state=TrialState.OK, latency=latency(latency_us(candidate))
        )
        history.add(replace(trial, build=build(trial)))
        if with_energy:
            history.add_energy(taken(i + 1, replace(energy(energy_mj(candidate)), ci95_mj=0.1)))
    return history


def moves(history: TaskHistory, n: int, **fields: object) -> list[tuple[int, ...]]:
    found = local_moves(
        history,
        SimulatedSpace(),
        n,
        band=BAND,
        ranker=fields.get("ranker", Oracle()),  # type: ignore[arg-type]
        rng=np.random.default_rng(0),
    )
    return [knobs_of(one) for one in found]


def n_changed(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


def test_points_that_differ_by_less_than_noise_are_one_place() -> None:
    steps = [point(10.0, 5.0), point(11.0, 4.9), point(12.0, 4.0), point(13.0, 3.99)]
    # Half widths 0.1 and 0.1: differences up to 0.1414 show nothing.
    assert distinct_front(steps, [0.1] * 4) == [steps[0], steps[2]]
    assert distinct_front(steps, [None] * 4) == steps


def test_every_front_point_has_its_turn_and_changes_one_decision() -> None:
    fast, frugal = (3, 5, 3, 5, 3, 5), (3, 2, 3, 5, 3, 5)
    found = moves(history_at(fast, frugal), 8)
    assert len(found) == 8
    assert all(min(n_changed(one, fast), n_changed(one, frugal)) == 1 for one in found)
    assert n_changed(found[0], fast) == 1
    assert n_changed(found[1], frugal) == 1


def test_slow_and_dominated_points_start_none() -> None:
    fast, poor, slow = (3, 5, 3, 5, 3, 5), (4, 7, 3, 5, 3, 5), (7, 0, 7, 0, 7, 0)
    found = moves(history_at(fast, poor, slow), 8)
    assert all(n_changed(one, fast) == 1 for one in found)


def test_the_models_order_the_moves_of_a_point() -> None:
    history, space = history_at((3, 5, 3, 5, 3, 5)), SimulatedSpace()
    ordered = [energy_mj(space.candidate(one)) for one in moves(history, 12)]
    assert ordered == sorted(ordered)
    blind = [energy_mj(space.candidate(one)) for one in moves(history, 12, ranker=NoModels())]
    assert np.mean(ordered) < np.mean(blind)


def test_without_energies_the_fastest_start() -> None:
    fast = (3, 5, 3, 5, 3, 5)
    found = moves(history_at(fast, with_energy=False), 4)
    assert len(found) == 4
    assert all(n_changed(one, fast) == 1 for one in found)


def test_nothing_tried_nothing_moved() -> None:
    assert moves(TaskHistory(make_task(), position=0), 4) == []


def test_the_batch_holds_its_share_of_local_moves() -> None:
    history = history_at((3, 5, 3, 5, 3, 5), (3, 2, 3, 5, 3, 5))
    for share, expected in ((0.0, 0), (0.5, 8)):
        config = SearchConfig(population=48, local_share=share)
        found = Evolutionary(config).propose(
            history, SimulatedSpace(), 16, ranker=Oracle(), rng=np.random.default_rng(0)
        )
        assert len(found) == 16
        assert sum(one.origin == "local" for one in found) == expected

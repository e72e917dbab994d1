"""Energy windows of finalists go where the network's energy goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search.config import SearchConfig
from search.final_effort import final_effort, share_of
from search.history import TaskHistory
from tests.search.makers import energy, history_of, taken

CONFIG = SearchConfig(n_final_rounds=9)


def task(name: str, energy_mj: float | None, *, weight: int = 1) -> TaskHistory:
    """A task whose default takes 100 us and this energy."""
    history = history_of(100.0, 90.0, name=name, weight=weight)
    if energy_mj is not None:
        history.add_energy(taken(1, energy(energy_mj)))
    return history


def rounds(
    histories: list[TaskHistory], *, measures_energy: bool = True, config: SearchConfig = CONFIG
) -> list[tuple[int, int]]:
    efforts = [
        final_effort(one, histories, config, measures_energy=measures_energy) for one in histories
    ]
    return [(effort.n_rounds, effort.n_energy_rounds) for effort in efforts]


def test_a_network_of_one_task_gets_every_round() -> None:
    assert rounds([task("a", 20.0)]) == [(9, 9)]


def test_equal_tasks_get_every_round() -> None:
    assert rounds([task("a", 20.0), task("b", 20.0)]) == [(9, 9), (9, 9)]


def test_windows_follow_the_share_of_energy_and_latency_is_measured_all_the_same() -> None:
    histories = [task("a", 80.0), task("b", 18.0), task("c", 1.5), task("d", 0.5)]
    # Shares of 80, 18, 1.5 and 0.5 %: 28.8, 6.5, 0.5 and 0.2 of 9 rounds. Below three rounds
    # an interval says nothing; below one per cent the task does not matter.
    assert rounds(histories) == [(9, 9), (9, 7), (9, 3), (27, 0)]


def test_tasks_that_take_even_turns_get_every_round_however_small() -> None:
    even = replace(CONFIG, task_order="even")
    histories = [task("a", 99.9), task("b", 0.1)]
    assert rounds(histories, config=even) == [(9, 9), (9, 9)]
    assert rounds(histories, config=even, measures_energy=False) == [(27, 0), (27, 0)]


def test_a_share_counts_how_often_the_network_calls_a_task() -> None:
    histories = [task("a", 10.0, weight=9), task("b", 10.0)]
    assert [share_of(one, histories) for one in histories] == pytest.approx([0.9, 0.1])


def test_without_the_energy_of_a_default_latency_decides() -> None:
    histories = [task("a", 99.0), task("b", None, weight=3)]
    assert [share_of(one, histories) for one in histories] == pytest.approx([0.25, 0.75])


def test_without_a_meter_there_are_more_rounds_and_no_windows() -> None:
    histories = [task("a", None), task("b", None)]
    assert rounds(histories, measures_energy=False) == [(27, 0), (27, 0)]

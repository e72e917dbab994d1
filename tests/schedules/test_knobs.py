"""Enumerating the points of an own space: once, and only if somebody wants them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from schedules.knobs import Knob, KnobSpace, Values
from schedules.softmax import softmax_space
from schedules.spaces import open_space, spaces_for
from schedules.target import Target
from schedules.task import Task
from schedules.workload import Workload


class Pairs(KnobSpace):
    """Pairs of digits that add up to at least ``least``."""

    name = "pairs"
    knobs = (Knob(name="a", values=(0, 1, 2, 3)), Knob(name="b", values=(0, 1, 2, 3)))

    def __init__(self, least: int) -> None:
        self.least = least
        self.n_asked = 0

    def refusal(self, values: Values) -> str | None:
        self.n_asked += 1
        return None if int(values["a"]) + int(values["b"]) >= self.least else "too small"

    def program(self, values: Values) -> Any:
        raise NotImplementedError

    def numbers(self, values: Values) -> list[float]:
        return []


def test_points_are_the_legal_ones_and_are_enumerated_once() -> None:
    space = Pairs(5)
    expected = [{"a": 2, "b": 3}, {"a": 3, "b": 2}, {"a": 3, "b": 3}]
    assert (space.points, space.points) == (expected, expected)
    assert space.n_asked == 16


def test_emptiness_is_known_from_the_first_legal_point() -> None:
    space = Pairs(1)
    assert not space.is_empty
    assert space.n_asked == 2
    assert Pairs(7).is_empty


def test_the_spaces_of_a_task_are_made_once(
    softmax: Callable[..., Workload], gpu: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(workload=softmax((24, 56)), target=gpu)
    made: list[Task] = []

    def counted(asked: Task) -> KnobSpace | None:
        made.append(asked)
        return softmax_space(asked)

    monkeypatch.setattr("schedules.families.FAMILIES", (counted,))
    for _ in range(3):
        assert "softmax" in spaces_for(task)
        open_space(task, "softmax")
    assert made == [task]

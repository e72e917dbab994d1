"""Opening a family's space: where the family covers a task, and has a point for it."""

from __future__ import annotations

from typing import TypeVar

from schedules.errors import UnknownSpace
from schedules.knobs import KnobSpace
from schedules.task import Task

Problem = TypeVar("Problem")
Space = TypeVar("Space", bound=KnobSpace)


def required(problem: Problem | None, task: Task, *, family: str, expected: str) -> Problem:
    """The problem behind a task that a space is opened for.

    Args:
        problem: What the family found in the task.
        task: Whose workload the message names.
        family: The space's name.
        expected: What the family covers.

    Raises:
        UnknownSpace: It found nothing.
    """
    if problem is None:
        raise UnknownSpace(
            f"the {family} family does not cover {task.workload.name}: expected {expected}."
        )
    return problem


def unless_empty(space: Space) -> Space | None:
    """The space, ``None`` if none of its points is legal."""
    return None if space.is_empty else space

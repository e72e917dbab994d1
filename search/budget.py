"""How much may still be spent, and how long that will take."""

from __future__ import annotations

from search.config import SearchConfig

ROUNDS_PER_TASK = 16
SMALLEST_ROUND = 8
LARGEST_ROUND = 64
SMALL_SHARE = 0.01
SMALL_TASK_ROUND = 3
"""Trials of a round of a task that takes less than ``SMALL_SHARE`` of the network's time."""


def round_size(config: SearchConfig, *, n_tasks: int, cost_share: float = 1.0) -> int:
    """Trials of one round: as configured, else about sixteen rounds per task.

    Small rounds, because each is planned without the results of the one before it. Small
    budgets give each task one small round rather than the first task a large one, and tasks
    that hardly matter a look rather than a search.

    Args:
        config: Trials of the run, and the size if the user wants one.
        n_tasks: Tasks that share the trials.
        cost_share: The task's share of the network's time so far.
    """
    if config.round_size > 0:
        return config.round_size
    per_task = max(1, (config.n_trials - n_tasks) // max(1, n_tasks))
    wanted = min(LARGEST_ROUND, max(SMALLEST_ROUND, per_task // ROUNDS_PER_TASK))
    return min(wanted, per_task, *([SMALL_TASK_ROUND] if cost_share < SMALL_SHARE else []))


def seconds_left(
    *, elapsed_s: float, n_done: int, n_left: int, limit_s: float | None
) -> float | None:
    """Time the remaining trials will take at this session's pace, ``None`` before the first.

    Args:
        elapsed_s: Seconds of this session.
        n_done: Trials finished in this session.
        n_left: Trials that remain.
        limit_s: The session's own time limit.
    """
    if n_done == 0:
        return None
    expected_s = elapsed_s / n_done * n_left
    return expected_s if limit_s is None else min(expected_s, max(0.0, limit_s - elapsed_s))

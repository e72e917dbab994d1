"""Which task gets the next round: the one where a round is expected to save most."""

from __future__ import annotations

from collections.abc import Sequence

from search.history import TaskHistory

RECENT_ROUNDS = 3
"""Rounds over which the slope of improvement is taken."""

TRUST_IN_SLOPE = 0.6
"""Weight of what recent rounds saved against the hope that later ones save as the average did."""


def next_task(histories: Sequence[TaskHistory], n_rounds: dict[str, int]) -> TaskHistory | None:
    """The task of the next round, ``None`` once every task is exhausted.

    Every task gets one search round first, the heaviest first. Then the expected saving
    of one more round decides: ``weight * latency`` saved per round lately, mixed with
    ``weight * latency / rounds`` as the optimistic guess for tasks that had few rounds.

    Args:
        histories: All tasks in order.
        n_rounds: Search rounds each task had, by task id; the default's round not counted.
    """
    open_tasks = [history for history in histories if not history.exhausted]
    if not open_tasks:
        return None
    cold = [history for history in open_tasks if n_rounds.get(history.task.task_id, 0) == 0]
    if cold:
        return max(cold, key=lambda one: (_cost_us(one, None), -one.position))
    return max(
        open_tasks,
        key=lambda one: (_expected_saving_us(one, n_rounds[one.task.task_id]), -one.position),
    )


def _expected_saving_us(history: TaskHistory, n_rounds: int) -> float:
    latest = max((trial.round_index for trial in history.trials), default=0)
    now_us = _cost_us(history, None)
    before_us = _cost_us(history, max(0, latest - RECENT_ROUNDS))
    slope = (before_us - now_us) / min(n_rounds, RECENT_ROUNDS)
    return TRUST_IN_SLOPE * slope + (1.0 - TRUST_IN_SLOPE) * now_us / n_rounds


def _cost_us(history: TaskHistory, last_round: int | None) -> float:
    """Weighted best latency after a round; 0 if nothing ran yet."""
    best = min(
        (
            trial.latency.latency_us
            for trial in history.ok_trials()
            if trial.latency is not None and (last_round is None or trial.round_index <= last_round)
        ),
        default=0.0,
    )
    return history.task.weight * best

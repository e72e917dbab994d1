"""Which task gets the next round: the one that is expected to save most per second."""

from __future__ import annotations

from collections.abc import Sequence

from search.history import TaskHistory
from search.objective import Point, choose

RECENT_ROUNDS = 3
"""Rounds over which the slope of improvement is taken."""

TRUST_IN_SLOPE = 0.6
"""Weight of what recent rounds saved against the hope that later ones save as the average did."""


def next_task(
    histories: Sequence[TaskHistory],
    n_rounds: dict[str, int],
    *,
    max_slowdown: float,
    even: bool = False,
) -> TaskHistory | None:
    """The task of the next round, ``None`` once every task is exhausted.

    Every task gets one search round first, the heaviest first. Then the expected saving
    of one more round decides: what recent rounds saved, mixed with ``cost / rounds`` as the
    optimistic guess for tasks that had few rounds. Where every task has an energy, the cost
    is the network's energy and savings count per second of tuning; elsewhere it is latency.

    Args:
        histories: All tasks in order.
        n_rounds: Search rounds each task had, by task id; the default's round not counted.
        max_slowdown: Latency that may be given up for energy.
        even: Give the round to the task that had the fewest instead, the first of these.
    """
    open_tasks = [history for history in histories if not history.exhausted]
    if not open_tasks:
        return None
    if even:
        return min(open_tasks, key=lambda one: (n_rounds.get(one.task.task_id, 0), one.position))
    cold = [history for history in open_tasks if n_rounds.get(history.task.task_id, 0) == 0]
    if cold:
        return max(cold, key=lambda one: (_latency_cost(one, None), -one.position))
    by_energy = all(any(p.energy_mj is not None for p in one.points()) for one in histories)

    def saving(history: TaskHistory) -> float:
        rounds = n_rounds[history.task.task_id]
        if by_energy:
            return _expected_energy_saving(history, rounds, max_slowdown) / _round_s(history)
        return _expected_latency_saving(history, rounds)

    return max(open_tasks, key=lambda one: (saving(one), -one.position))


def cost_share(history: TaskHistory, histories: Sequence[TaskHistory]) -> float:
    """The task's share of the network's time by the best latencies so far; 1 before any."""
    total = sum(_latency_cost(one, None) for one in histories)
    return _latency_cost(history, None) / total if total else 1.0


def _expected_latency_saving(history: TaskHistory, n_rounds: int) -> float:
    before = _latency_cost(history, _some_rounds_ago(history))
    return _expected(before, _latency_cost(history, None), n_rounds)


def _expected_energy_saving(history: TaskHistory, n_rounds: int, max_slowdown: float) -> float:
    before = _energy_cost(history, _some_rounds_ago(history), max_slowdown)
    return _expected(before, _energy_cost(history, None, max_slowdown), n_rounds)


def _expected(before: float, now: float, n_rounds: int) -> float:
    slope = (before - now) / min(n_rounds, RECENT_ROUNDS)
    return TRUST_IN_SLOPE * slope + (1.0 - TRUST_IN_SLOPE) * now / n_rounds


def _some_rounds_ago(history: TaskHistory) -> int:
    latest = max((trial.round_index for trial in history.trials), default=0)
    return max(0, latest - RECENT_ROUNDS)


def _latency_cost(history: TaskHistory, last_round: int | None) -> float:
    """Weighted best latency after a round, microseconds; 0 if nothing ran yet."""
    latencies_us = [point.latency_us for point in _points(history, last_round)]
    return history.task.weight * min(latencies_us, default=0.0)


def _energy_cost(history: TaskHistory, last_round: int | None, max_slowdown: float) -> float:
    """Weighted energy of what would be chosen after a round, millijoules.

    An unmeasured choice is taken to draw the mean power of the measured candidates.
    """
    choice = choose(_points(history, last_round), max_slowdown=max_slowdown)
    if choice is None:
        return 0.0
    energy_mj = choice.point.energy_mj
    if energy_mj is None:
        known = [(p.energy_mj, p.latency_us) for p in history.points() if p.energy_mj is not None]
        energy_mj = choice.point.latency_us * sum(e / t for e, t in known) / len(known)
    return history.task.weight * energy_mj


def _points(history: TaskHistory, last_round: int | None) -> list[Point]:
    return [
        history.point(trial)
        for trial in history.ok_trials()
        if last_round is None or trial.round_index <= last_round
    ]


def _round_s(history: TaskHistory) -> float:
    """Mean seconds of a search round: builds, timing, energy windows.

    Taken from what the records say was done, not from the clock: the same history then
    gives the same order on every machine.
    """
    seconds = 1e-3
    for trial in history.trials:
        if trial.build is not None:
            seconds += trial.build.build_s
        if trial.latency is not None and trial.same_as is None:
            n_launches = trial.latency.n_repeats * trial.latency.n_launches
            seconds += trial.latency.latency_us * n_launches * 1e-6
    for record in history.energy_records:
        seconds += record.measurement.window_ms * 1e-3 if record.measurement else 0.0
    return seconds / max(1, len({trial.round_index for trial in history.trials}))

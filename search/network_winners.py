"""What to ship for each task of a run if the network as a whole has a latency budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from schedules.candidate import Candidate
from search.config import SearchConfig
from search.database import Database
from search.final import FrontPoint
from search.finalists import is_current
from search.history import TaskHistory
from search.memory import RunMemory
from search.network_choice import TaskFront, choose_network
from search.objective import Point
from search.pareto import front


def network_winners(
    database: Database, config: SearchConfig, *, max_slowdown: float
) -> dict[str, Candidate]:
    """The candidate of every task with usable energies, by task id.

    Tasks without energies are left out: nothing is known of what they would save.

    Args:
        database: Of a finished, stopped or running run; only read.
        config: Of that run.
        max_slowdown: Share by which the network may be slower than with the fastest
            candidate of every task.
    """
    histories = RunMemory(database.tasks(), database).histories
    finals = database.finals()
    fronts, candidates = [], {}
    for history in histories:
        final = finals.get(history.task.task_id)
        fresh = {}
        if final is not None and is_current(final, history, config):
            fresh = {
                one.trial_id: Point(
                    trial_id=one.trial_id,
                    latency_us=one.measurement.latency.latency_us,
                    energy_mj=one.measurement.energy.steady_mj,
                    sustained_us=one.measurement.energy.steady_latency_us,
                )
                for one in final.finalists
                if one.measurement is not None
            }
        points = _points(history, fresh)
        if points:
            task = history.task
            fronts.append(TaskFront(task_id=task.task_id, weight=task.weight, points=points))
            candidates.update({trial.trial_id: trial.candidate for trial in history.trials})
    choice = choose_network(fronts, budget_us=(1.0 + max_slowdown) * _fastest_us(fronts))
    if choice is None:
        return {}
    return {task_id: candidates[point.trial_id] for task_id, point in choice.points.items()}


def _points(history: TaskHistory, fresh: dict[int, Point]) -> tuple[FrontPoint, ...]:
    """The front of a task under lasting load; fresh numbers of finalists replace the search's.

    What was not worth measuring again stays that of the search.
    """
    found = [_newest(point, fresh.get(point.trial_id)) for point in history.points()]
    return front(replace(one, latency_us=one.sustained_us or one.latency_us) for one in found)


def _newest(point: Point, fresh: Point | None) -> Point:
    if fresh is None:
        return point
    if fresh.energy_mj is not None:
        return fresh
    return replace(fresh, energy_mj=point.energy_mj, sustained_us=point.sustained_us)


def _fastest_us(fronts: Sequence[TaskFront]) -> float:
    return sum(one.weight * min(point.latency_us for point in one.points) for one in fronts)

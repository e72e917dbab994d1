"""How often a task's finalists are measured again: as often as the network's energy asks for.

A window of energy takes a good part of a second and there is one per build and round. The error of
the network's energy is least for a given number of windows if each task gets a share of them like
its share of the energy. Tasks that are no network, each tuned for itself, take even turns
(``task_order``) and get every round. The numbers are fixed before anything is measured: who stops
as soon as he likes what he sees finds differences that are not there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from search.config import SearchConfig
from search.history import TaskHistory
from search.ports import FinalEffort
from search.trial import EnergyMeasurement, Verdict

UNMETERED_FACTOR = 3
"""Rounds without an energy window are short, so there may be more of them."""

LEAST_SHARE = 0.01
"""Of a task below this share of the network's energy no saving would be seen."""

LEAST_ROUNDS = 3
"""With two, Student's interval is six times the scatter."""

NOT_WORTH_A_WINDOW = EnergyMeasurement(
    energy_mj=None,
    meter="none",
    verdict=Verdict.UNMEASURED,
    reason=f"the task takes less than {LEAST_SHARE:.0%} of the network's energy.",
)


def final_effort(
    history: TaskHistory,
    histories: Sequence[TaskHistory],
    config: SearchConfig,
    *,
    measures_energy: bool,
) -> FinalEffort:
    """The rounds of a task among all tasks of its network; all alike where they take even turns."""
    most = config.n_final_rounds
    n_energy = 0
    if measures_energy:
        is_even = config.task_order == "even"
        share = 1.0 / len(histories) if is_even else share_of(history, histories)
        n_energy = _energy_rounds(share, len(histories), most)
    return FinalEffort(
        n_rounds=most if n_energy else UNMETERED_FACTOR * most, n_energy_rounds=n_energy
    )


def _energy_rounds(share: float, n_tasks: int, most: int) -> int:
    """The most for a task of average share and above, fewer for smaller ones."""
    if share < LEAST_SHARE:
        return 0
    return min(most, max(LEAST_ROUNDS, math.ceil(most * share * n_tasks)))


def share_of(history: TaskHistory, histories: Sequence[TaskHistory]) -> float:
    """A task's share of what the network's defaults take.

    Energy where every default has one, else latency. A task whose default did not run
    counts nothing.
    """
    points = {
        one.task.task_id: one.point(default)
        for one in histories
        if (default := one.default_trial()) is not None
    }
    energies = {task_id: point.energy_mj for task_id, point in points.items()}
    known = {task_id: energy for task_id, energy in energies.items() if energy is not None}
    if len(known) < len(points):
        known = {task_id: point.latency_us for task_id, point in points.items()}
    costs = {
        one.task.task_id: one.task.weight * known.get(one.task.task_id, 0.0) for one in histories
    }
    return costs[history.task.task_id] / sum(costs.values())

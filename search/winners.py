"""What an artifact should use for each task, at whatever point a run was stopped."""

from __future__ import annotations

from dataclasses import dataclass

from search.config import SearchConfig
from search.database import Database
from search.final import Criterion, Final
from search.finalists import is_current
from search.memory import RunMemory
from search.objective import choose
from search.trial import EnergyMeasurement, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """The trial to ship for one task.

    Attributes:
        trial: Whose schedule to use.
        default: The default schedule's trial.
        criterion: The number that decided.
        energy: Energy of the trial while searching, ``None`` if not measured.
        default_energy: Likewise for the default.
        final: The interleaved comparison, ``None`` if the run stopped before it: the choice
            then rests on single measurements.
    """

    trial: Trial
    default: Trial
    criterion: Criterion
    energy: EnergyMeasurement | None
    default_energy: EnergyMeasurement | None
    final: Final | None


def winners(database: Database, config: SearchConfig) -> dict[str, Winner]:
    """The winner of every task that has a default which ran, by task id.

    Args:
        database: Of a finished, stopped or running run; only read.
        config: Of that run.
    """
    memory = RunMemory(database.tasks(), database)
    finals = database.finals()
    found: dict[str, Winner] = {}
    for history in memory.histories:
        default = history.default_trial()
        choice = choose(history.points(), max_slowdown=config.max_slowdown)
        if default is None or choice is None:
            continue
        task_id = history.task.task_id
        final = finals.get(task_id)
        current = final if is_current(final, history, config) else None
        trial_id = choice.point.trial_id if current is None else current.winner_trial_id
        trial = next(one for one in history.trials if one.trial_id == trial_id)
        found[task_id] = Winner(
            trial=trial,
            default=default,
            criterion=choice.criterion if current is None else current.criterion,
            energy=history.energy_of(trial),
            default_energy=history.energy_of(default),
            final=current,
        )
    return found

"""What a run has found so far, read from its folder: one choice per task, at any moment.

A run stopped before its finalists were compared still has a choice: the best point
of the search by the objective, or the default schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from effcompile.config import TuneConfig
from effcompile.run_folder import RunFolder
from schedules.candidate import Candidate
from schedules.task import Task
from search.database import Database
from search.default_trials import DEFAULT_CANDIDATE
from search.final import Final, Finalist
from search.identity import Identity
from search.network_winners import network_winners
from search.winners import Winner, winners


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOutcome:
    """One task and the schedule to ship.

    Attributes:
        task: The task.
        chosen: Candidate to compile; the default where nothing ran.
        final: Interleaved re-measurement, ``None`` if the run ended before it.
    """

    task: Task
    chosen: Candidate
    final: Final | None

    @property
    def winner(self) -> Finalist | None:
        """Fresh numbers of the chosen candidate."""
        return self.final.winner if self.final else None

    @property
    def default(self) -> Finalist | None:
        """Fresh numbers of the default schedule."""
        return self.final.default if self.final else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """Everything a run folder says about what to build.

    Attributes:
        folder: Where.
        identity: What was tuned, on what.
        config: Effective settings of the latest start.
        tasks: One outcome per task, in order.
    """

    folder: RunFolder
    identity: Identity
    config: TuneConfig
    tasks: tuple[TaskOutcome, ...]


def read_outcome(path: Path) -> RunOutcome:
    """Read a run folder.

    Raises:
        UsageError: Not a run folder, or nothing was started in it.
    """
    folder = RunFolder(path)
    folder.require()
    with Database(folder.database_path, read_only=True) as database:
        identity, config = database.identity(), database.config_json()
        if identity is None or config is None:
            raise folder.nothing_started()
        settings = msgspec.json.decode(config, type=TuneConfig)
        found = winners(database, settings.search)
        outcomes = tuple(_outcome(task, found.get(task.task_id)) for task in database.tasks())
    return RunOutcome(folder=folder, identity=identity, config=settings, tasks=outcomes)


def _outcome(task: Task, winner: Winner | None) -> TaskOutcome:
    return TaskOutcome(
        task=task,
        chosen=winner.trial.candidate if winner else DEFAULT_CANDIDATE,
        final=winner.final if winner else None,
    )


def network_choices(paths: Sequence[Path], *, max_slowdown: float) -> dict[str, Candidate]:
    """One candidate per task so that the network takes least energy within a latency budget.

    Each run is a network of its own; tasks without measured energies keep what
    :func:`read_outcome` chose.

    Args:
        paths: Run folders.
        max_slowdown: Share by which each network may be slower than at its fastest.

    Raises:
        UsageError: Not a run folder, or nothing was started in it.
    """
    choices: dict[str, Candidate] = {}
    for path in paths:
        outcome = read_outcome(path)
        choices.update({one.task.task_id: one.chosen for one in outcome.tasks})
        with Database(outcome.folder.database_path, read_only=True) as database:
            choices.update(
                network_winners(database, outcome.config.search, max_slowdown=max_slowdown)
            )
    return choices

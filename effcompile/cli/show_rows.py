"""What ``show`` tells of a task and of a trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from effcompile.errors import UsageError
from search.database import Database
from search.trial import Trial, TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One task of a run.

    Attributes:
        task: Id.
        name: Of the workload.
        op: Operator family.
        weight: Calls per inference.
        trials: Finished trials.
        failed: Of these, failed ones by cause.
        default_us: Latency of the default schedule during the search.
        best_us: Least latency of the search that may be used.
    """

    task: str
    name: str
    op: str
    weight: int
    trials: int
    failed: str
    default_us: float | None
    best_us: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """One finished trial.

    Attributes:
        trial: Number.
        task: Id.
        round: Of the task.
        space: Design space.
        origin: Why it was proposed.
        state: How it ended.
        latency_us: If timed.
        ci95_us: Half width of its interval.
        energy_mj: If measured and usable.
        message: First line of the cause of a failure.
    """

    trial: int
    task: str
    round: int
    space: str
    origin: str
    state: str
    latency_us: float | None
    ci95_us: float | None
    energy_mj: float | None
    message: str


def task_rows(database: Database) -> list[TaskRow]:
    """One row per task, in order."""
    trials = _finished(database)
    rows = []
    for task in database.tasks():
        own = [trial for trial in trials if trial.task_id == task.task_id]
        usable = [one for one in own if one.state is TrialState.OK]
        failed = Counter(trial.state.value for trial in own if trial.state is not TrialState.OK)
        rows.append(
            TaskRow(
                task=task.task_id,
                name=task.workload.name,
                op=task.workload.op,
                weight=task.weight,
                trials=len(own),
                failed=", ".join(f"{cause} {n}" for cause, n in failed.most_common()),
                default_us=_least_us([one for one in usable if one.origin == "default"]),
                best_us=_least_us(usable),
            )
        )
    return rows


def trial_rows(database: Database, *, task: str | None, failed: bool) -> list[TrialRow]:
    """One row per trial of a task (all tasks if ``None``).

    Raises:
        UsageError: No task's id starts so.
    """
    known = [one.task_id for one in database.tasks()]
    wanted = [task_id for task_id in known if task_id.startswith(task or "")]
    if not wanted:
        raise UsageError(f"no task starts with {task!r}: the run's tasks are {', '.join(known)}.")
    energies = {
        record.trial_id: record.measurement.energy_mj
        for record in database.energies()
        if record.measurement is not None and record.phase == "search"
    }
    return [
        _trial_row(trial, energies.get(trial.trial_id))
        for trial in _finished(database)
        if trial.task_id in wanted and not (failed and trial.state is TrialState.OK)
    ]


def _least_us(trials: Sequence[Trial]) -> float | None:
    return min((one.latency.latency_us for one in trials if one.latency), default=None)


def _finished(database: Database) -> list[Trial]:
    return [trial for trial in database.trials() if trial.state is not TrialState.PROPOSED]


def _trial_row(trial: Trial, energy_mj: float | None) -> TrialRow:
    message = trial.failure.message.splitlines()[0][:100] if trial.failure else ""
    return TrialRow(
        trial=trial.trial_id,
        task=trial.task_id,
        round=trial.round_index,
        space=trial.candidate.space,
        origin=trial.origin,
        state=trial.state.value,
        latency_us=trial.latency.latency_us if trial.latency else None,
        ci95_us=trial.latency.ci95_us if trial.latency else None,
        energy_mj=energy_mj,
        message=message,
    )

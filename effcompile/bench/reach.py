"""How soon a run had a good point of each task: trials and seconds, from its database.

Good is a latency within a share of the least that this run, or another one of the same tasks,
has measured. Seconds are those that the tuning loop spent on the task: planning, waiting for
builds, checking and timing. Where tasks share a session each has its own; together they are the
session's. Starting, energy windows and the comparison of finalists are not in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from schedules.task import Task
from search.database import Database
from search.trial import Trial, TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """One task of a run.

    Attributes:
        task: Name of its kernel and the shapes of its inputs.
        n_trials: Finished trials, the default included.
        loop_s: Seconds spent on them; ``None`` for runs that did not record them.
        best_us: Least latency of the run; ``None`` if nothing ran.
        known_us: Least latency of all runs.
        n_trials_within: Trials until the first latency close to that; ``None`` for never.
        within_s: Seconds until then.
    """

    task: str
    n_trials: int
    loop_s: float | None
    best_us: float | None
    known_us: float | None
    n_trials_within: int | None
    within_s: float | None


def bench_reach(run: Path, *, known: Sequence[Path], within: float) -> list[Reach]:
    """When each task of a run came close to the best.

    Args:
        run: Folder or database.
        known: Other runs whose latencies count as known.
        within: What is close enough, as a share.

    Raises:
        DatabaseMissing: One of them is not there.
    """
    tasks, trials = _finished(run)
    best_us: dict[str, float] = {}
    for trial in chain(trials, *(_finished(path)[1] for path in known)):
        for latency_us in _usable_us(trial):
            best_us[trial.task_id] = min(latency_us, best_us.get(trial.task_id, latency_us))
    return [
        _reach(
            task,
            [trial for trial in trials if trial.task_id == task.task_id],
            best_us.get(task.task_id),
            within,
        )
        for task in tasks
    ]


def _finished(path: Path) -> tuple[list[Task], list[Trial]]:
    with Database(path, read_only=True) as database:
        trials = [one for one in database.trials() if one.state is not TrialState.PROPOSED]
        return database.tasks(), trials


def _usable_us(trial: Trial) -> Iterator[float]:
    if trial.state is TrialState.OK and trial.latency is not None:
        yield trial.latency.latency_us


def _reach(task: Task, trials: Sequence[Trial], known_us: float | None, within: float) -> Reach:
    n_within = next(
        (
            number
            for number, trial in enumerate(trials, start=1)
            for latency_us in _usable_us(trial)
            if known_us is not None and latency_us <= known_us * (1.0 + within)
        ),
        None,
    )
    return Reach(
        task=label(task),
        n_trials=len(trials),
        loop_s=_seconds(trials),
        best_us=min((us for trial in trials for us in _usable_us(trial)), default=None),
        known_us=known_us,
        n_trials_within=n_within,
        within_s=None if n_within is None else _seconds(trials[:n_within]),
    )


def label(task: Task) -> str:
    """A task for people: name of its kernel and the shapes of its inputs."""
    shapes = ("x".join(map(str, spec.shape)) for spec in task.workload.inputs)
    return f"{task.workload.name} {' '.join(shapes)}"


def _seconds(trials: Sequence[Trial]) -> float | None:
    spent_s = [trial.loop_s for trial in trials if trial.loop_s is not None]
    return sum(spent_s) if len(spent_s) == len(trials) else None

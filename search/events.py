"""What the loop reports to whoever watches: plain records, no printing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from search.final import Final
from search.trial import EnergyMeasurement, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskProgress:
    """Where one task stands.

    Attributes:
        task_id: The task.
        position: Place in the list of tasks, from 0.
        name: Workload name, for people.
        weight: Runs of the workload per inference.
        n_trials: Finished trials.
        failures: Finished trials that failed, by state name.
        default_latency_us: Latency of the default schedule.
        default_energy_mj: Its energy, ``None`` if not measured.
        best_latency_us: Least latency so far.
        chosen_trial_id: What would be taken if the run stopped now.
        chosen_latency_us: Its latency.
        chosen_energy_mj: Its energy, ``None`` if not measured.
        exhausted: True once the design spaces hold nothing new.
    """

    task_id: str
    position: int
    name: str
    weight: int
    n_trials: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    default_latency_us: float | None = None
    default_energy_mj: float | None = None
    best_latency_us: float | None = None
    chosen_trial_id: int | None = None
    chosen_latency_us: float | None = None
    chosen_energy_mj: float | None = None
    exhausted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Where the run stands.

    Attributes:
        n_trials: Finished trials, earlier sessions included.
        n_planned: The budget.
        failures: Failed trials by state name.
        elapsed_s: Seconds of this session.
        left_s: Estimate of the seconds left, ``None`` before there is one.
    """

    n_trials: int
    n_planned: int
    failures: dict[str, int]
    elapsed_s: float
    left_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """The loop is about to begin or to continue."""

    tasks: tuple[TaskProgress, ...]
    totals: Totals
    resumed: bool
    measures_energy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundStarted:
    """Trials of one task are about to be built and measured."""

    task: TaskProgress
    round_index: int
    n_proposed: int
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFinished:
    """A trial reached its final state and is stored."""

    trial: Trial
    task: TaskProgress
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyMeasured:
    """An energy measurement was taken, usable or not, and is stored."""

    trial_id: int
    measurement: EnergyMeasurement
    task: TaskProgress
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalsStarted:
    """The finalists of a task are about to be measured again."""

    task: TaskProgress
    n_finalists: int
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFinished:
    """A task has its outcome."""

    final: Final
    task: TaskProgress
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """The loop ended; ``stopped_by`` as in :class:`search.stored.Session`."""

    stopped_by: str
    tasks: tuple[TaskProgress, ...]
    totals: Totals


Event = (
    RunStarted
    | RoundStarted
    | TrialFinished
    | EnergyMeasured
    | FinalsStarted
    | TaskFinished
    | RunFinished
)
Events = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Watch nothing."""
    del event

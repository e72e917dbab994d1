"""What a report shows, as plain records: collected once, rendered in several forms."""

from __future__ import annotations

from dataclasses import dataclass, field

from cost_models.quality import ModelQuality
from search.final import Ratio
from search.meter_facts import MeterFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A number with its interval.

    Attributes:
        value: Best estimate, in the unit of the field that holds it.
        ci95: Half width of the 95 % interval; ``None`` if unknown.
    """

    value: float
    ci95: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Default beside tuned. ``None`` was not measured.

    Attributes:
        default_latency_us: In short bursts, with the default schedule.
        latency_us: With the chosen one.
        latency_ratio: Chosen over default, from interleaved rounds.
        default_sustained_us: Latency under lasting load, with the default schedule.
        sustained_us: Likewise with the chosen one.
        sustained_ratio: Chosen over default, from interleaved rounds.
        default_energy_mj: With the default schedule.
        energy_mj: With the chosen one.
        energy_ratio: Chosen over default, from interleaved rounds.
        no_energy_reason: Why energy is missing; empty if it is there.
    """

    default_latency_us: Measured | None = None
    latency_us: Measured | None = None
    latency_ratio: Ratio | None = None
    default_sustained_us: Measured | None = None
    sustained_us: Measured | None = None
    sustained_ratio: Ratio | None = None
    default_energy_mj: Measured | None = None
    energy_mj: Measured | None = None
    energy_ratio: Ratio | None = None
    no_energy_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPoint:
    """One usable trial in the picture of a task.

    Attributes:
        trial_id: Which.
        latency_us: Microseconds per launch.
        energy_mj: Millijoules per launch, ``None`` if not measured.
    """

    trial_id: int
    latency_us: float
    energy_mj: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Improvement:
    """A trial that was faster than all before it.

    Attributes:
        n_trials: Finished trials of the task up to and including it.
        latency_us: Its latency.
    """

    n_trials: int
    latency_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureKind:
    """Trials of a task that failed for one cause.

    Attributes:
        state: Name of the state they ended in.
        count: How many.
        example: First line of the first one's message.
    """

    state: str
    count: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """One task.

    Attributes:
        task_id: Id of the workload.
        name: For people.
        op: Operator family.
        shapes: Inputs and outputs, for people.
        weight: Calls per run of the model.
        n_trials: Finished trials.
        comparison: Default beside chosen.
        is_final: True if both were measured again, interleaved; False if the numbers are
            those of the search.
        is_tie: True if no difference from the default was shown.
        criterion: ``energy`` or ``latency``: what the choice was made by; empty without one.
        space: Design space of the chosen candidate; empty if nothing ran.
        default_trial_id: Trial of the default schedule.
        chosen_trial_id: Trial that an artifact takes.
        points: Every usable trial.
        front: Trials that no other beats in latency and energy.
        improvements: Best latency by trial.
        failures: By cause, most frequent first.
    """

    task_id: str
    name: str
    op: str
    shapes: str
    weight: int
    n_trials: int
    comparison: Comparison
    is_final: bool = False
    is_tie: bool = False
    criterion: str = ""
    space: str = ""
    default_trial_id: int | None = None
    chosen_trial_id: int | None = None
    points: tuple[TrialPoint, ...] = ()
    front: tuple[TrialPoint, ...] = ()
    improvements: tuple[Improvement, ...] = ()
    failures: tuple[FailureKind, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """One whole entry point.

    Attributes:
        entry: Its name.
        dims: Values that open dimensions had.
        comparison: All defaults beside all choices.
    """

    entry: str
    dims: dict[str, int] = field(default_factory=dict)
    comparison: Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the search itself cost, all sessions together.

    Attributes:
        n_sessions: Starts of the tuner.
        seconds: By what they were spent on.
        window_energy_j: Joules of the device inside energy windows; ``None`` if none was
            metered.
        device_energy_j: Joules of the device from start to end of every session; ``None`` if a
            session was not metered or was killed.
    """

    n_sessions: int
    seconds: dict[str, float]
    window_energy_j: float | None
    device_energy_j: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Payback:
    """After how many runs of the model the metered joules of the search are saved.

    Attributes:
        n_runs: Runs; ``None`` if that cannot be said.
        saved_mj: Millijoules saved per run.
        basis: What the saving was taken from, or why there is no number.
    """

    n_runs: float | None
    saved_mj: float | None
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """Everything a report shows of one run folder.

    Attributes:
        folder: The run folder.
        created_utc: When the run was first started.
        device: Name of the target device.
        arch: Its architecture.
        fingerprint: Device, driver and versions.
        max_slowdown: Share of latency that could be given up for energy.
        seed: Seed of the search.
        n_trials: Finished trials.
        models: Whole entry points, where measured.
        tasks: In the order of the run.
        spent: What the search cost.
        payback: When it pays back.
        n_damaged: Rows of the database that were set aside.
        predicted_by: The models that all numbers of tasks come from, if nothing was run while
            tuning; empty where they were measured.
        model_quality: How good energy predictions were: the run's model, and constant power
            on the same measurements.
    """

    folder: str
    created_utc: str
    device: str
    arch: str
    fingerprint: dict[str, str]
    max_slowdown: float
    seed: int
    n_trials: int
    models: tuple[ModelReport, ...]
    tasks: tuple[TaskReport, ...]
    spent: Spent
    payback: Payback
    n_damaged: int
    meter: MeterFacts | None = None
    predicted_by: str = ""
    model_quality: tuple[ModelQuality, ...] = ()
    schema_version: int = 1

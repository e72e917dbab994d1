"""What a run folder remembers beside trials: proposals, rounds, energies, sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schedules.candidate import Candidate
from search.trial import EnergyMeasurement

EnergyPhase = Literal["search", "final"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A candidate that a strategy wants to try.

    Attributes:
        candidate: What to try.
        origin: ``default``, ``sample``, ``mutate`` or another word of the strategy.
    """

    candidate: Candidate
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Trials of one task that were proposed together.

    Attributes:
        task_id: The task.
        round_index: Counts the task's rounds from 0; round 0 holds the default alone.
        n_proposed: Trials proposed; 0 says that the task's spaces hold nothing new.
        energy_planned: True once the trials whose energy is measured were chosen.
    """

    task_id: str
    round_index: int
    n_proposed: int
    energy_planned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyPlan:
    """The decision to measure a trial's energy.

    Attributes:
        trial_id: Whose energy.
        predicted_mj: What the models expected, ``None`` before they knew anything.
        spread_mj: Standard deviation they stated for their error, likewise.
        is_control: True if drawn at random, to see the models' error without bias.
    """

    trial_id: int
    predicted_mj: float | None = None
    spread_mj: float | None = None
    is_control: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyRecord:
    """An energy measurement that was planned, and taken unless the run was cut off.

    Attributes:
        energy_id: 1, 2, ... in the order of planning.
        plan: Whose energy, and what was expected.
        round_index: Round of the trial's task in which it was planned; -1 in the final phase.
        phase: ``search`` while searching, ``final`` for the interleaved re-measurement.
        measurement: ``None`` while planned only.
    """

    energy_id: int
    plan: EnergyPlan
    round_index: int
    phase: EnergyPhase
    measurement: EnergyMeasurement | None

    @property
    def trial_id(self) -> int:
        """Whose energy."""
        return self.plan.trial_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One start of the tuner on this folder, and what it spent.

    Attributes:
        session_id: 1, 2, ...
        started_utc: ISO time, for people.
        ended_utc: ``None`` while running, or if the process was killed.
        stopped_by: Why it ended: ``budget``, ``seconds``, ``request``, ``exhausted``,
            ``error``; empty while running or if killed.
        n_trials: Trials finished.
        build_s: Seconds the loop waited for builds.
        latency_s: Seconds of checking and timing.
        energy_s: Seconds of measuring energy.
        final_s: Seconds of measuring finalists again.
        model_s: Seconds of features, training and proposing.
        window_energy_j: Joules inside energy windows, ``None`` if none was measured.
        device_energy_j: Joules of the device from start to end; ``None`` without a meter, or
            if the process was killed.
    """

    session_id: int
    started_utc: str
    ended_utc: str | None = None
    stopped_by: str = ""
    n_trials: int = 0
    build_s: float = 0.0
    latency_s: float = 0.0
    energy_s: float = 0.0
    final_s: float = 0.0
    model_s: float = 0.0
    window_energy_j: float | None = None
    device_energy_j: float | None = None
    schema_version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A row that no longer reads, set aside.

    Attributes:
        table: Where it stood.
        row_id: Its key there.
        cause: What is wrong with it.
    """

    table: str
    row_id: str
    cause: str

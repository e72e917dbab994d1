"""What the interleaved re-measurement of a task's finalists found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from search.ports import FinalMeasurement
from search.trial import Failure

Criterion = Literal["energy", "latency"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A finalist over the default, from interleaved rounds; below 1 is better.

    Attributes:
        median: Median over rounds.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    median: float
    low: float
    high: float

    @property
    def is_tie(self) -> bool:
        """True if the interval holds 1: no difference was shown."""
        return self.low <= 1.0 <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalist:
    """One trial of the final comparison.

    Attributes:
        trial_id: Which trial.
        measurement: Fresh numbers, ``None`` if it failed.
        failure: Why, if it failed.
        latency_ratio: In short bursts, against the default; ``None`` if either failed.
        energy_ratio: Likewise; ``None`` also where energy is unmeasured.
        sustained_ratio: Latency under lasting load, likewise.
    """

    trial_id: int
    measurement: FinalMeasurement | None = None
    failure: Failure | None = None
    latency_ratio: Ratio | None = None
    energy_ratio: Ratio | None = None
    sustained_ratio: Ratio | None = None

    @property
    def judged_ratio(self) -> Ratio | None:
        """The latency that decides: under lasting load where that was measured.

        At a power limit a kernel that draws less runs faster than one that a short burst
        calls its equal.
        """
        return self.sustained_ratio or self.latency_ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPoint:
    """One point of a task's latency-energy front.

    Attributes:
        trial_id: Which trial.
        latency_us: Microseconds per launch.
        energy_mj: Millijoules per launch.
    """

    trial_id: int
    latency_us: float
    energy_mj: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """The outcome of a task.

    Attributes:
        task_id: The task.
        default_trial_id: Trial of the default schedule.
        winner_trial_id: What the artifact should use; the default if nothing beat it.
        criterion: ``energy``, or ``latency`` where energy is unmeasured.
        is_tie: True if no finalist differed from the default by more than the interval.
        finalists: The default first, then by rank of the search.
        front: Non-dominated trials with usable energy, by latency.
        last_trial_id: Latest trial of the task when this was decided; newer trials void it.
        settings: Number of finalists and rounds it was decided with.
    """

    task_id: str
    default_trial_id: int
    winner_trial_id: int
    criterion: Criterion
    is_tie: bool
    finalists: tuple[Finalist, ...]
    front: tuple[FrontPoint, ...]
    last_trial_id: int
    settings: str
    schema_version: int = 1

    @property
    def winner(self) -> Finalist:
        """The winner's fresh numbers."""
        return next(one for one in self.finalists if one.trial_id == self.winner_trial_id)

    @property
    def default(self) -> Finalist:
        """The default's fresh numbers."""
        return next(one for one in self.finalists if one.trial_id == self.default_trial_id)

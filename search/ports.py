"""What the loop needs from the outside world, as protocols.

The loop never imports a compiler or a driver: it receives these objects, so the
same code runs on a GPU, on doubles with faults, and on recorded trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from schedules.candidate import Candidate
from schedules.task import Task
from search.trial import Build, EnergyMeasurement, Failure, LatencyMeasurement


class Builder(Protocol):
    """Turns candidates into libraries, several at a time, without touching the device."""

    def submit(self, task: Task, candidate: Candidate) -> Future[Build | Failure]:
        """Start a build; the future never raises, a failed build is a :class:`Failure`."""

    def close(self) -> None:
        """Stop every build process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalMeasurement:
    """One finalist measured again, interleaved with the others.

    Attributes:
        latency: Fresh latency.
        energy: Fresh energy, or an unmeasured record.
        latency_ratios: Per interleaved round, burst latency over that of the first build given.
        energy_ratios: Likewise for energy, of the rounds that measured it.
        sustained_ratios: Likewise for the time per launch inside the energy windows.
    """

    latency: LatencyMeasurement
    energy: EnergyMeasurement
    latency_ratios: tuple[float, ...]
    energy_ratios: tuple[float, ...] = ()
    sustained_ratios: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalEffort:
    """Interleaved rounds of one task.

    Attributes:
        n_rounds: Rounds in all.
        n_energy_rounds: The first ones of them, in which energy is measured too.
    """

    n_rounds: int
    n_energy_rounds: int


class Runner(Protocol):
    """Checks and measures libraries; the only port that reaches the device."""

    @property
    def measures_energy(self) -> bool:
        """False if no usable meter exists; energy is then never asked for."""

    def time(self, task: Task, build: Build) -> LatencyMeasurement | Failure:
        """Compare with the reference, then time; a wrong result is a failure."""

    def measure_energy(
        self, task: Task, build: Build, *, matters_below_mj: float | None = None
    ) -> EnergyMeasurement:
        """Energy of one launch; never raises, the verdict says what went wrong.

        Args:
            task: The task.
            build: What to measure.
            matters_below_mj: A candidate that certainly takes more need not be measured any
                better; ``None`` where every number counts.
        """

    def compare(
        self, task: Task, builds: Sequence[Build], effort: FinalEffort
    ) -> list[FinalMeasurement | Failure]:
        """Measure several builds again in turn, round after round, in one session."""

    def close(self) -> None:
        """Stop the device process."""

"""A finished run as one small file: everything needed to search it again without the device.

A recording holds what was tried, what came of it, and the features by which candidates
resemble each other. Measurements belong to binaries: candidates that compile to the same
code share them, whichever of them is replayed first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schedules.candidate import Candidate
from schedules.stats import KernelStats
from schedules.task import Task
from search.meter_facts import MeterFacts
from search.peer import Peer
from search.trial import EnergyMeasurement, Failure, LatencyMeasurement

RECORDING_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedBinary:
    """One build and everything measured of it.

    Attributes:
        binary_id: Content id of machine code and launch geometry.
        stats: Compiler numbers.
        latency: ``None`` if it never ran.
        failure: Why it may not be used, if so.
        run_s: Seconds that checking and timing took.
        windows: Energies taken while searching, in order, usable or not.
        finals: Energies from interleaved re-measurements.
    """

    binary_id: str
    stats: KernelStats
    latency: LatencyMeasurement | None = None
    failure: Failure | None = None
    run_s: float = 0.0
    windows: tuple[EnergyMeasurement, ...] = ()
    finals: tuple[EnergyMeasurement, ...] = ()

    def usable_energies(self) -> list[EnergyMeasurement]:
        """Every usable energy, those of the search first."""
        return [one for one in (*self.windows, *self.finals) if one.verdict.usable]

    def energy_mj(self) -> float | None:
        """Best estimate over all usable windows, weighted by precision."""
        known = self.usable_energies()
        values = np.array([one.steady_mj for one in known], dtype=np.float64)
        if len(values) == 0:
            return None
        errors = np.array([one.ci95_mj or math.nan for one in known], dtype=np.float64)
        weights = errors**-2.0 if np.isfinite(errors).all() else np.ones(len(values))
        return float(np.average(values, weights=weights))

    def sustained_latency_us(self) -> float | None:
        """Median time per launch over all usable windows, none of them disturbed."""
        burst_us = math.inf if self.latency is None else self.latency.latency_us
        known = [one.lasting_us(burst_us) for one in self.usable_energies()]
        values = [one for one in known if one is not None]
        return float(np.median(values)) if values else None

    def noise_share(self) -> float:
        """Standard deviation of one window as a share of the energy, 0 if unknown."""
        shares = [
            one.ci95_mj / 1.96 / one.energy_mj
            for one in self.usable_energies()
            if one.ci95_mj is not None and one.energy_mj
        ]
        return float(np.median(shares)) if shares else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCandidate:
    """One candidate and what its build came to.

    Attributes:
        candidate: What was tried.
        binary_id: Its build; empty if there is none.
        failure: Why there is none.
        build_s: Seconds the build took.
    """

    candidate: Candidate
    binary_id: str = ""
    failure: Failure | None = None
    build_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSpace:
    """The tried candidates of one design space.

    Attributes:
        name: Name of the space.
        candidates: In the order of trial.
        columns: Early features, float32, little endian, one column after the other: equal
            neighbours compress well.
    """

    name: str
    candidates: tuple[RecordedCandidate, ...]
    columns: bytes

    def features(self) -> np.ndarray:
        """Early features, float32, shape (n_candidates, n_features)."""
        n_rows = max(1, len(self.candidates))
        return np.frombuffer(self.columns, dtype="<f4").reshape(-1, n_rows).T


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTask:
    """Everything tried for one task.

    Attributes:
        task: The task.
        default: The default schedule.
        spaces: Searched spaces, the preferred first.
        binaries: Every build, by first trial.
        peers: Kernels of libraries for the same task, measured beside the run.
        board: Id of the very device all of it was measured on; empty in older recordings.
    """

    task: Task
    default: RecordedCandidate
    spaces: tuple[RecordedSpace, ...]
    binaries: tuple[RecordedBinary, ...]
    peers: tuple[Peer, ...] = ()
    board: str = ""

    @property
    def n_energies(self) -> int:
        """Builds with a usable energy."""
        return sum(bool(one.usable_energies()) for one in self.binaries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A run that can be searched again.

    Attributes:
        command: How the run was made, for people.
        created_utc: When it was started.
        device: Fingerprint of the device; of several boards, what they have in common.
        settings: Settings of the recorded run.
        versions: Versions of the recorded run.
        meters: Calibrations of its energy meter, one per session that metered.
        tasks: In the order of the run.
    """

    command: str
    created_utc: str
    device: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    meters: tuple[MeterFacts, ...] = ()
    tasks: tuple[RecordedTask, ...]
    schema_version: int = RECORDING_VERSION


def packed_features(features: np.ndarray) -> bytes:
    """Rows of features, shape (n, n_features), as a recording keeps them."""
    return np.ascontiguousarray(features.T, dtype="<f4").tobytes()

"""A recording as design spaces, builder and runner: tuning without the device.

The space holds only what was tried; a mutation goes to a candidate that resembles its
parent. Every answer comes from the recording, or from a generator seeded by what was
asked, so equal questions get equal answers in every process.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from schedules.candidate import Candidate
from schedules.errors import IllegalCandidate
from schedules.task import Task
from search.final_effort import NOT_WORTH_A_WINDOW
from search.ports import FinalEffort, FinalMeasurement
from search.recording import RecordedBinary, RecordedCandidate, RecordedSpace, Recording
from search.trial import (
    Build,
    EnergyMeasurement,
    Failure,
    LatencyMeasurement,
    TrialState,
    Verdict,
)

N_NEIGHBOURS = 8
"""A mutation goes to one of this many recorded candidates around its parent."""


class ReplaySpace:
    """The recorded candidates of one design space."""

    def __init__(self, recorded: RecordedSpace) -> None:
        self.name = recorded.name
        self._candidates = [one.candidate for one in recorded.candidates]
        self._place = {one.candidate_id: i for i, one in enumerate(self._candidates)}
        self._features = recorded.features()
        self._scaled = _scaled(self._features)
        self._near: dict[int, np.ndarray] = {}

    @property
    def least_cycles(self) -> None:
        """Nothing is known beforehand."""

    def sample(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        """See :class:`schedules.space.DesignSpace`; drawn without replacement."""
        return [self._candidates[i] for i in rng.permutation(len(self._candidates))[:n]]

    def mutate(
        self, parents: Sequence[Candidate], rng: np.random.Generator
    ) -> list[Candidate | None]:
        """One of the nearest recorded neighbours of each parent, by distance of features."""
        return [self._neighbour(parent, rng) for parent in parents]

    def _neighbour(self, parent: Candidate, rng: np.random.Generator) -> Candidate | None:
        drawn = int(rng.integers(N_NEIGHBOURS))
        place = self._place.get(parent.candidate_id)
        if place is None or len(self._candidates) < 2:
            return None
        near = self._neighbours(place)
        return self._candidates[int(near[drawn % len(near)])]

    def _neighbours(self, place: int) -> np.ndarray:
        """Places of the nearest others, the nearest first."""
        if place not in self._near:
            distances = np.square(self._scaled - self._scaled[place]).sum(axis=1)
            distances[place] = np.inf
            n_others = min(N_NEIGHBOURS, len(self._candidates) - 1)
            self._near[place] = np.argsort(distances, kind="stable")[:n_others]
        return self._near[place]

    def features(self, candidates: Sequence[Candidate]) -> np.ndarray:
        """See :class:`schedules.space.DesignSpace`."""
        places = [self._placed(one) for one in candidates]
        return np.asarray(self._features[places], dtype=np.float32)

    def realise(self, candidate: Candidate) -> Any:
        """Nothing: a recording holds no programs.

        Raises:
            IllegalCandidate: Always.
        """
        raise IllegalCandidate(
            f"candidate {candidate.candidate_id} is recorded, not compiled: open the space "
            "itself to compile it."
        )

    def _placed(self, candidate: Candidate) -> int:
        place = self._place.get(candidate.candidate_id)
        if place is None:
            raise IllegalCandidate(f"candidate {candidate.candidate_id} was not recorded.")
        return place


class ReplayBuilder:
    """Answers with recorded builds."""

    def __init__(self, recording: Recording) -> None:
        self._candidates: dict[tuple[str, str], RecordedCandidate] = {}
        self._binaries = binaries_of(recording)
        for task in recording.tasks:
            every = [task.default, *(one for space in task.spaces for one in space.candidates)]
            for one in every:
                key = task.task.task_id, one.candidate.candidate_id
                self._candidates.setdefault(key, one)

    def submit(self, task: Task, candidate: Candidate) -> Future[Build | Failure]:
        """See :class:`search.ports.Builder`."""
        future: Future[Build | Failure] = Future()
        future.set_result(self._build(task.task_id, candidate))
        return future

    def _build(self, task_id: str, candidate: Candidate) -> Build | Failure:
        recorded = self._candidates.get((task_id, candidate.candidate_id))
        if recorded is None:
            return Failure(state=TrialState.BUILD_ERROR, message="the candidate was not recorded")
        binary = self._binaries.get((task_id, recorded.binary_id))
        if binary is None:
            missing = Failure(state=TrialState.BUILD_ERROR, message="no build was recorded")
            return recorded.failure or missing
        return Build(
            library_path=f"replay/{binary.binary_id}",
            binary_id=binary.binary_id,
            stats=binary.stats,
            build_s=recorded.build_s,
        )

    def close(self) -> None:
        """See :class:`search.ports.Builder`; nothing is open."""


class ReplayRunner:
    """Answers with recorded measurements.

    While searching, a binary's first recorded energy window is returned as it was, noise
    included. Re-measuring finalists scatters around the best estimate of all its windows
    by the noise they had.
    """

    def __init__(self, recording: Recording) -> None:
        self._binaries = binaries_of(recording)

    @property
    def measures_energy(self) -> bool:
        """True if the recording holds any usable energy."""
        return any(one.usable_energies() for one in self._binaries.values())

    def time(self, task: Task, build: Build) -> LatencyMeasurement | Failure:
        """See :class:`search.ports.Runner`."""
        binary = self._binaries[task.task_id, build.binary_id]
        if binary.latency is not None:
            return binary.latency
        return binary.failure or Failure(
            state=TrialState.RUN_ERROR, message="no latency was recorded"
        )

    def measure_energy(
        self, task: Task, build: Build, *, matters_below_mj: float | None = None
    ) -> EnergyMeasurement:
        """See :class:`search.ports.Runner`; what was recorded is as long as it is."""
        binary = self._binaries[task.task_id, build.binary_id]
        return (*binary.windows, *binary.finals, _UNMEASURED)[0]

    def compare(
        self, task: Task, builds: Sequence[Build], effort: FinalEffort
    ) -> list[FinalMeasurement | Failure]:
        """See :class:`search.ports.Runner`."""
        binaries = [self._binaries[task.task_id, one.binary_id] for one in builds]
        drawn = [_Scatter.of(one, effort) for one in binaries]
        first = drawn[0]
        return [
            FinalMeasurement(
                latency=binary.latency,
                energy=_final_energy(binary, one),
                latency_ratios=_ratios(one.latency_us, first.latency_us),
                energy_ratios=_ratios(one.energy_mj, first.energy_mj),
                sustained_ratios=_ratios(one.sustained_us, first.sustained_us),
            )
            if binary.latency is not None
            else Failure(state=TrialState.RUN_ERROR, message="no latency was recorded")
            for binary, one in zip(binaries, drawn, strict=True)
        ]

    def close(self) -> None:
        """See :class:`search.ports.Runner`; nothing is open."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scatter:
    """Numbers of interleaved rounds, one per round; empty where unmeasured."""

    latency_us: np.ndarray
    energy_mj: np.ndarray
    sustained_us: np.ndarray

    @classmethod
    def of(cls, binary: RecordedBinary, effort: FinalEffort) -> _Scatter:
        rng = np.random.default_rng(list(binary.binary_id.encode()))
        normal = rng.standard_normal((2, effort.n_rounds))
        with_window = slice(effort.n_energy_rounds)
        latency_us, energy_mj, sustained_us = np.empty(0), np.empty(0), np.empty(0)
        if binary.latency is not None:
            share = binary.latency.ci95_us / 1.96 / binary.latency.latency_us
            latency_us = binary.latency.latency_us * np.exp(share * normal[0])
            lasting_us = binary.sustained_latency_us()
            if lasting_us is not None:
                sustained_us = lasting_us * np.exp(share * normal[0][with_window])
        best = binary.energy_mj()
        if best is not None:
            energy_mj = best * np.exp(binary.noise_share() * normal[1][with_window])
        return cls(latency_us=latency_us, energy_mj=energy_mj, sustained_us=sustained_us)


def binaries_of(recording: Recording) -> dict[tuple[str, str], RecordedBinary]:
    """Every recorded build by task id and binary id."""
    return {
        (task.task.task_id, one.binary_id): one for task in recording.tasks for one in task.binaries
    }


def _final_energy(binary: RecordedBinary, drawn: _Scatter) -> EnergyMeasurement:
    if len(drawn.energy_mj) == 0:
        return NOT_WORTH_A_WINDOW if binary.usable_energies() else _UNMEASURED
    mean = float(drawn.energy_mj.mean())
    # One round's noise over the square root of the number of rounds.
    ci95 = 1.96 * binary.noise_share() * mean / float(np.sqrt(len(drawn.energy_mj)))
    return replace(
        binary.usable_energies()[-1],
        energy_mj=mean,
        ci95_mj=ci95,
        sustained_latency_us=binary.sustained_latency_us(),
    )


def _ratios(values: np.ndarray, first: np.ndarray) -> tuple[float, ...]:
    if len(values) == 0 or len(first) == 0:
        return ()
    return tuple(float(one) for one in values / first)


def _scaled(features: np.ndarray) -> np.ndarray:
    """Columns with equal say: each over its standard deviation; unknown numbers at 0."""
    known = np.nan_to_num(np.asarray(features, dtype=np.float64))
    spread = known.std(axis=0)
    return np.asarray(known / np.where(spread > 0.0, spread, 1.0))


_UNMEASURED = EnergyMeasurement(
    energy_mj=None,
    meter="none",
    verdict=Verdict.UNMEASURED,
    reason="the recording holds no energy of this candidate.",
)

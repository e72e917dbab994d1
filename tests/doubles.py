"""A simulated device for the search: a smooth landscape over knobs, with faults on demand."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schedules.candidate import Candidate
from schedules.errors import IllegalCandidate
from schedules.stats import KernelResources, KernelStats
from schedules.target import known_target
from schedules.task import Task
from schedules.workload import TensorSpec, Workload, content_id
from search.final_effort import NOT_WORTH_A_WINDOW
from search.ports import FinalEffort, FinalMeasurement
from search.trial import (
    Build,
    EnergyMeasurement,
    Failure,
    LatencyMeasurement,
    TrialState,
    Verdict,
)

DEFAULT_LATENCY_US = 400.0
N_VALUES = 8

Fault = Callable[[Candidate], str | None]
FAULTS = (
    "hang",
    "crash",
    "wrong",
    "raise_in_runner",
    "build_error",
    "build_timeout",
    "unstable",
    "raise_in_future",
)


def no_fault(candidate: Candidate) -> str | None:
    del candidate
    return None


def faults_by_hash(candidate: Candidate) -> str | None:
    """One candidate in two fails, each in one of eight ways; the default never does."""
    if candidate.space == "default":
        return None
    number = int(candidate.candidate_id, 16)
    return FAULTS[number // 2 % len(FAULTS)] if number % 2 else None


def make_task(name: str = "matmul", *, weight: int = 1) -> Task:
    tensor = TensorSpec(name="x", shape=(4, 8), dtype="float32")
    workload = Workload(
        op="generic",
        name=name,
        inputs=(tensor,),
        outputs=(tensor,),
        program="{}",
        program_hash=hashlib.sha256(name.encode()).hexdigest()[:16],
    )
    return Task(workload=workload, target=known_target("h200"), weight=weight)


def knobs_of(candidate: Candidate) -> tuple[int, ...]:
    return tuple(json.loads(candidate.decisions))


class SimulatedSpace:
    """Knobs of eight values each; the last bit of the last knob changes no machine code."""

    def __init__(self, name: str = "knobs", *, n_knobs: int = 6, n_values: int = N_VALUES) -> None:
        self.name = name
        self.n_knobs = n_knobs
        self.n_values = n_values
        self.n_feature_calls = 0
        self.featured: list[str] = []

    def candidate(self, knobs: Sequence[int]) -> Candidate:
        return Candidate(space=self.name, decisions=json.dumps([int(knob) for knob in knobs]))

    @property
    def least_cycles(self) -> None:
        """Nothing is known beforehand."""

    def sample(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        size = self.n_values**self.n_knobs
        if size <= 2 * n:
            every = list(itertools.product(range(self.n_values), repeat=self.n_knobs))
            return [self.candidate(every[i]) for i in rng.permutation(size)[:n]]
        found: dict[Candidate, None] = {}
        while len(found) < n:
            drawn = rng.integers(self.n_values, size=(n - len(found), self.n_knobs))
            found.update(dict.fromkeys(self.candidate(row) for row in drawn))
        return list(found)

    def mutate(
        self, parents: Sequence[Candidate], rng: np.random.Generator
    ) -> list[Candidate | None]:
        children: list[Candidate | None] = []
        for parent in parents:
            knobs = list(knobs_of(parent))
            place, value = int(rng.integers(self.n_knobs)), int(rng.integers(self.n_values))
            same = knobs[place] == value
            knobs[place] = value
            children.append(None if same else self.candidate(knobs))
        return children

    def features(self, candidates: Sequence[Candidate]) -> np.ndarray:
        self.n_feature_calls += 1
        self.featured += [candidate.candidate_id for candidate in candidates]
        return np.array([knobs_of(candidate) for candidate in candidates], dtype=np.float32)

    def realise(self, candidate: Candidate) -> Any:
        knobs = knobs_of(candidate)
        if candidate.space != self.name or len(knobs) != self.n_knobs:
            raise IllegalCandidate(f"{candidate.decisions} is no point of {self.name}")
        return knobs


def latency_us(candidate: Candidate) -> float:
    """100 us at the best knobs (3, 5, 3, 5, ...), growing with the distance; ``slow*`` doubles."""
    if candidate.space == "default":
        return DEFAULT_LATENCY_US
    knobs = np.array(knobs_of(candidate), dtype=float)
    knobs[-1] = knobs[-1] // 2 * 2
    best = np.where(np.arange(len(knobs)) % 2, 5.0, 3.0)
    distance = np.abs(knobs - best) / N_VALUES
    cross = abs(distance[0] - distance[-1])
    factor = 2.0 if candidate.space.startswith("slow") else 1.0
    return float(100.0 * factor * (1.0 + 2.0 * np.sum(distance**2) + cross))


def power_w(candidate: Candidate) -> float:
    """200 to 400 W, lower for small values of the second knob."""
    if candidate.space == "default":
        return 300.0
    return 200.0 + 200.0 * knobs_of(candidate)[1] / N_VALUES


def energy_mj(candidate: Candidate) -> float:
    return power_w(candidate) * latency_us(candidate) * 1e-3


@dataclass
class SimulatedBuilder:
    """Builds at once; the library path carries the candidate to the runner."""

    fault: Fault = no_fault
    delay_s: float = 0.0
    submitted: list[str] = field(default_factory=list)
    n_open: int = 0
    most_open: int = 0

    def submit(self, task: Task, candidate: Candidate) -> Future[Build | Failure]:
        self.submitted.append(candidate.candidate_id)
        future: Future[Build | Failure] = Future()
        kind = self.fault(candidate)
        if self.delay_s:
            time.sleep(self.delay_s)
        if kind == "raise_in_future":
            future.set_exception(RuntimeError("pool is gone"))
        elif kind == "build_error":
            future.set_result(Failure(state=TrialState.BUILD_ERROR, message="no such register"))
        elif kind == "build_timeout":
            future.set_result(Failure(state=TrialState.BUILD_TIMEOUT, message="over 30 s"))
        else:
            future.set_result(self._build(task, candidate))
        return future

    def _build(self, task: Task, candidate: Candidate) -> Build:
        code: list[Any] = [task.task_id, candidate.space]
        if candidate.space != "default":
            knobs = list(knobs_of(candidate))
            code += [*knobs[:-1], knobs[-1] // 2]
        resources = KernelResources(name="main", grid=(132, 1, 1), block=(128, 1, 1))
        return Build(
            library_path=json.dumps([candidate.space, candidate.decisions]),
            binary_id=content_id(code),
            stats=KernelStats(kernels=(resources,), code_bytes=1000, flops=1e6, unique_bytes=1000),
            build_s=0.01,
        )

    def close(self) -> None:
        pass


def candidate_of(build: Build) -> Candidate:
    space, decisions = json.loads(build.library_path)
    return Candidate(space=space, decisions=decisions)


@dataclass
class SimulatedRunner:
    """Measures the landscape exactly, or fails as told."""

    fault: Fault = no_fault
    delay_s: float = 0.0
    measures_energy: bool = True
    timed: list[Candidate] = field(default_factory=list)
    energies: list[Candidate] = field(default_factory=list)
    n_compared: int = 0
    on_time: Callable[[], None] = lambda: None

    def time(self, task: Task, build: Build) -> LatencyMeasurement | Failure:
        candidate = candidate_of(build)
        self.timed.append(candidate)
        self.on_time()
        time.sleep(self.delay_s)
        kind = self.fault(candidate)
        if kind == "hang":
            return Failure(state=TrialState.RUN_TIMEOUT, message="over 20 s, killed")
        if kind == "crash":
            return Failure(state=TrialState.RUN_ERROR, message="illegal address")
        if kind == "wrong":
            return Failure(state=TrialState.WRONG_RESULT, message="nan at 3 of 32 elements")
        if kind == "raise_in_runner":
            raise RuntimeError("the runner itself broke")
        verdict = Verdict.UNSTABLE if kind == "unstable" else Verdict.OK
        return _latency(candidate, verdict)

    def measure_energy(
        self, task: Task, build: Build, *, matters_below_mj: float | None = None
    ) -> EnergyMeasurement:
        candidate = candidate_of(build)
        self.energies.append(candidate)
        time.sleep(self.delay_s)
        return self._energy(candidate)

    def compare(
        self, task: Task, builds: Sequence[Build], effort: FinalEffort
    ) -> list[FinalMeasurement | Failure]:
        self.n_compared += 1
        candidates = [candidate_of(build) for build in builds]
        first = candidates[0]
        # A wobble of half a per cent, so that intervals have a width.
        wobble = [1.0 + 0.005 * (-1) ** i for i in range(effort.n_rounds)]
        return [
            FinalMeasurement(
                latency=_latency(one, Verdict.OK),
                energy=self._energy(one) if effort.n_energy_rounds else NOT_WORTH_A_WINDOW,
                latency_ratios=tuple(latency_us(one) / latency_us(first) * w for w in wobble),
                energy_ratios=tuple(
                    energy_mj(one) / energy_mj(first) * w for w in wobble[: effort.n_energy_rounds]
                ),
            )
            for one in candidates
        ]

    def close(self) -> None:
        pass

    def _energy(self, candidate: Candidate) -> EnergyMeasurement:
        if not self.measures_energy:
            return EnergyMeasurement(energy_mj=None, meter="none", verdict=Verdict.UNMEASURED)
        return EnergyMeasurement(
            energy_mj=energy_mj(candidate),
            ci95_mj=0.1,
            power_w=power_w(candidate),
            sustained_latency_us=latency_us(candidate),
            window_ms=500.0,
            window_energy_mj=power_w(candidate) * 500.0,
            n_steps=25,
            meter="simulated",
            verdict=Verdict.OK,
        )


def _latency(candidate: Candidate, verdict: Verdict) -> LatencyMeasurement:
    return LatencyMeasurement(
        latency_us=latency_us(candidate),
        ci95_us=0.1,
        n_repeats=10,
        n_launches=20,
        cache="hot",
        method="graph",
        verdict=verdict,
    )

"""Short ways to make records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from schedules.candidate import Candidate
from search.history import TaskHistory
from search.stored import EnergyPlan, EnergyRecord, Proposal
from search.trial import (
    Build,
    EnergyMeasurement,
    Failure,
    LatencyMeasurement,
    Trial,
    TrialState,
    Verdict,
)
from tests.doubles import SimulatedBuilder, make_task


def proposal(number: int, *, space: str = "knobs") -> Proposal:
    return Proposal(candidate=Candidate(space=space, decisions=f"[{number}, 0]"), origin="sample")


def latency(latency_us: float = 100.0) -> LatencyMeasurement:
    return LatencyMeasurement(
        latency_us=latency_us, ci95_us=0.1, n_repeats=10, n_launches=5, cache="hot", method="loop"
    )


def energy(energy_mj: float = 20.0, verdict: Verdict = Verdict.OK) -> EnergyMeasurement:
    return EnergyMeasurement(
        energy_mj=energy_mj if verdict.usable else None, meter="simulated", verdict=verdict
    )


def build(trial: Trial) -> Build:
    outcome = SimulatedBuilder().submit(make_task(), trial.candidate).result()
    assert isinstance(outcome, Build)
    return outcome


def finished(trial: Trial, latency_us: float = 100.0) -> Trial:
    return replace(
        trial, state=TrialState.OK, latency=latency(latency_us), build=build(trial), spent_s=0.5
    )


def failed(trial: Trial, state: TrialState = TrialState.RUN_ERROR) -> Trial:
    return replace(trial, state=state, failure=Failure(state=state, message="it broke"))


def trial_of(number: int, **fields: Any) -> Trial:
    one = proposal(number, space=fields.pop("space", "knobs"))
    base = Trial(
        trial_id=number,
        task_id=make_task().task_id,
        round_index=1,
        origin=one.origin,
        candidate=one.candidate,
    )
    return replace(base, **fields)


def history_of(
    *latencies_us: float, weight: int = 1, name: str = "matmul", space: str = "knobs"
) -> TaskHistory:
    """Trials 1, 2, ... in rounds 0, 1, ... with the given latencies; the first is the default."""
    history = TaskHistory(make_task(name, weight=weight), position=0)
    for i, value in enumerate(latencies_us):
        origin = "default" if i == 0 else "sample"
        trial = trial_of(i + 1, round_index=i, origin=origin, space=space)
        history.add(finished(trial, value))
    return history


def taken(trial_id: int, measurement: EnergyMeasurement, **plan: Any) -> EnergyRecord:
    return EnergyRecord(
        energy_id=trial_id,
        plan=EnergyPlan(trial_id=trial_id, **plan),
        round_index=0,
        phase="search",
        measurement=measurement,
    )

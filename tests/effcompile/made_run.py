"""A run folder filled through the real database: three tasks, failures, energies, outcomes.

- ``matmul``: tuned, 14 % less energy at 8 % less time
- ``softmax``: a tie, so the default stays
- ``<conv>``: search cut off before the final comparison, name to be escaped
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from effcompile.manifest import MODEL_NOTE, Gain, MeasuredEntry
from schedules.candidate import Candidate
from schedules.stats import KernelStats
from schedules.target import known_target
from schedules.task import Task
from schedules.workload import TensorSpec, Workload
from search.database import Database
from search.final import Final, Finalist, Ratio
from search.history import TaskHistory
from search.identity import Identity
from search.meter_facts import METER_NOTE
from search.pareto import front
from search.ports import FinalMeasurement
from search.stored import EnergyPlan, Proposal, Session
from search.trial import (
    Build,
    EnergyMeasurement,
    Failure,
    LatencyMeasurement,
    Trial,
    TrialState,
    Verdict,
)
from tests.meter_facts import facts

TARGET = known_target("h200")


def latency(value_us: float) -> LatencyMeasurement:
    """One per mille interval."""
    return LatencyMeasurement(
        latency_us=value_us,
        ci95_us=value_us / 1000,
        n_repeats=10,
        n_launches=50,
        cache="hot",
        method="graph",
    )


def energy(value_mj: float | None, reason: str = "") -> EnergyMeasurement:
    """Half a percent interval; ``None`` gives an unmeasured record."""
    if value_mj is None:
        return EnergyMeasurement(
            energy_mj=None, meter="none", verdict=Verdict.UNMEASURED, reason=reason
        )
    return EnergyMeasurement(
        energy_mj=value_mj, ci95_mj=value_mj / 200, meter="nvml", verdict=Verdict.OK
    )


def under_load(measured: EnergyMeasurement, latency_us: float) -> EnergyMeasurement:
    """With a latency, if there is an energy."""
    if measured.energy_mj is None:
        return measured
    return replace(measured, sustained_latency_us=latency_us)


def task(name: str, weight: int) -> Task:
    """A task without a program; reports do not look at it."""
    spec = TensorSpec(name="x", shape=(64, 128), dtype="float16")
    workload = Workload(
        op="generic", name=name, inputs=(spec,), outputs=(spec,), program="", program_hash=name
    )
    return Task(workload=workload, target=TARGET, weight=weight)


MATMUL, SOFTMAX, CONV = task("fused_matmul_add_gelu", 12), task("softmax", 4), task("<conv>", 1)


def make_run(folder: Path, *, measures_energy: bool = True, with_model: bool = True) -> Path:
    """Fill ``folder`` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    with Database(folder / "trials.sqlite") as database:
        settings = {"search.max_slowdown": 0.02, "search.seed": 7}
        identity = Identity(
            model_hash="m", target=TARGET, settings=settings, device={"driver": "580.159"}
        )
        database.claim(identity, config_json="{}")
        database.store_tasks([MATMUL, SOFTMAX, CONV])
        session = database.start_session()
        for seed, (one, base_us) in enumerate(((MATMUL, 400.0), (SOFTMAX, 50.0), (CONV, 15000.0))):
            _search(database, one, base_us, seed, measures_energy=measures_energy)
        _finals(database, measures_energy=measures_energy)
        if measures_energy:
            database.add_note(METER_NOTE, facts(15.0))
        if with_model:
            database.add_note(MODEL_NOTE, [_model(measures_energy=measures_energy)])
        database.update_session(
            _spent(session, measures_energy=measures_energy),
            ended=True,
        )
    return folder


def _spent(session: Session, *, measures_energy: bool) -> Session:
    return replace(
        session,
        stopped_by="budget",
        build_s=31.0,
        latency_s=140.0,
        energy_s=48.0 if measures_energy else 0.0,
        window_energy_j=5200.0 if measures_energy else None,
    )


def _search(
    database: Database, one: Task, base_us: float, seed: int, *, measures_energy: bool
) -> None:
    rng = np.random.default_rng(seed)
    first = database.propose(
        one.task_id, 0, [Proposal(candidate=_candidate("default", "{}"), origin="default")]
    )
    factors = [1.0, *np.exp(rng.normal(0.15, 0.25, size=30)).tolist()]
    rest = database.propose(
        one.task_id,
        1,
        [Proposal(candidate=_candidate("tvm", str(i)), origin="sample") for i in range(30)],
    )
    timed = []
    for trial, factor in zip([*first, *rest], factors, strict=True):
        if trial.trial_id % 7 == 5:
            database.finish(_failed(trial))
            continue
        database.finish(_timed(trial, base_us * factor))
        timed.append((trial, factor))
    planned = database.plan_energy(
        one.task_id, 1, [EnergyPlan(trial_id=trial.trial_id) for trial, _ in timed[:9]]
    )
    for record, (_, factor) in zip(planned, timed, strict=False):
        value = base_us * 0.16 * factor * (1 + 0.1 * rng.standard_normal())
        measured = energy(value) if measures_energy else energy(None, NO_METER)
        database.finish_energy(record, measured)


NO_METER = "no energy meter works here: NVML is missing"


def _candidate(space: str, decisions: str) -> Candidate:
    return Candidate(space=space, decisions=decisions)


def _timed(trial: Trial, latency_us: float) -> Trial:
    build = Build(library_path="", binary_id=str(trial.trial_id), stats=KernelStats(), build_s=0.2)
    return replace(trial, state=TrialState.OK, build=build, latency=latency(latency_us))


def _failed(trial: Trial) -> Trial:
    wrong = trial.trial_id % 2 == 0
    state = TrialState.WRONG_RESULT if wrong else TrialState.BUILD_ERROR
    message = "12 of 8192 elements differ" if wrong else "too much <shared> data\nsecond line"
    return replace(trial, state=state, failure=Failure(state=state, message=message))


def _finals(database: Database, *, measures_energy: bool) -> None:
    histories = {one.task_id: TaskHistory(one, position=0) for one in (MATMUL, SOFTMAX)}
    for trial in database.trials():
        if trial.task_id in histories:
            histories[trial.task_id].add(trial)
    for record in database.energies():
        for history in histories.values():
            if record.trial_id in {trial.trial_id for trial in history.trials}:
                history.add_energy(record)
    for one, latency_ratio, energy_ratio in (
        (MATMUL, ratio(0.921, 0.003), ratio(0.858, 0.006)),
        (SOFTMAX, ratio(0.999, 0.004), ratio(1.001, 0.007)),
    ):
        history = histories[one.task_id]
        points = front(history.points())
        ranked = sorted(history.ok_trials(), key=lambda trial: trial.latency.latency_us)
        winner_id = points[0].trial_id if points else ranked[0].trial_id
        default = history.default_trial()
        other = next(trial for trial in ranked if trial.trial_id == winner_id)
        base_us = default.latency.latency_us
        measured = [
            FinalMeasurement(
                latency=latency(base_us * factor),
                energy=under_load(
                    energy(base_us * 0.16 * joules if measures_energy else None, NO_METER),
                    1.04 * base_us * factor,
                ),
                latency_ratios=(factor,),
            )
            for factor, joules in ((1.0, 1.0), (latency_ratio.median, energy_ratio.median))
        ]
        is_tie = latency_ratio.is_tie
        database.store_final(
            Final(
                task_id=one.task_id,
                default_trial_id=default.trial_id,
                winner_trial_id=default.trial_id if is_tie else other.trial_id,
                criterion="energy" if measures_energy else "latency",
                is_tie=is_tie,
                finalists=(
                    Finalist(trial_id=default.trial_id, measurement=measured[0]),
                    Finalist(
                        trial_id=other.trial_id,
                        measurement=measured[1],
                        latency_ratio=latency_ratio,
                        energy_ratio=energy_ratio if measures_energy else None,
                        sustained_ratio=latency_ratio if measures_energy else None,
                    ),
                ),
                front=points,
                last_trial_id=history.trials[-1].trial_id,
                settings="test",
            )
        )


def ratio(median: float, half_width: float) -> Ratio:
    """A symmetric interval."""
    return Ratio(median=median, low=median - half_width, high=median + half_width)


def _model(*, measures_energy: bool) -> MeasuredEntry:
    none = energy(None, NO_METER)
    return MeasuredEntry(
        entry="main",
        dims={"T": 128},
        gain=Gain(
            default_latency=latency(5400.0),
            default_energy=energy(830.0) if measures_energy else none,
            latency=latency(5050.0),
            energy=energy(735.0) if measures_energy else none,
            latency_ratio=ratio(0.935, 0.002),
            energy_ratio=ratio(0.886, 0.004) if measures_energy else None,
        ),
    )

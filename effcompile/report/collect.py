"""From a run folder's database to the records of a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from effcompile.manifest import MODEL_NOTE, MeasuredEntry
from effcompile.report.payback import payback_of
from effcompile.report.records import (
    Comparison,
    FailureKind,
    Improvement,
    Measured,
    ModelReport,
    RunReport,
    Spent,
    TaskReport,
    TrialPoint,
)
from schedules.task import Task
from schedules.workload import TensorSpec
from search.database import Database
from search.final import Final, Finalist
from search.history import TaskHistory
from search.identity import PREDICTED_BY
from search.meter_facts import METER_NOTE, MeterFacts
from search.model_quality import model_quality
from search.objective import choose
from search.pareto import front
from search.stored import Session
from search.trial import EnergyMeasurement, LatencyMeasurement, Trial, TrialState

_DEFAULT_SLOWDOWN = 0.02


def collect(folder: Path) -> RunReport:
    """Read everything a report shows; the run may still be going on.

    Raises:
        SearchError: The folder holds no run, or its database cannot be read.
    """
    with Database(folder, read_only=True) as database:
        tasks, finals = database.tasks(), database.finals()
        histories = _histories(database, tasks)
        identity = database.identity()
        settings = identity.settings if identity else {}
        max_slowdown = float(settings.get("search.max_slowdown", _DEFAULT_SLOWDOWN))
        sessions = database.sessions()
        reports = tuple(
            _task_report(history, finals.get(history.task.task_id), max_slowdown)
            for history in histories
        )
        models = _model_reports(database.notes(MODEL_NOTE, list[MeasuredEntry]))
        spent = _spent(sessions)
        target = identity.target if identity else None
        return RunReport(
            folder=str(folder),
            created_utc=sessions[0].started_utc if sessions else "",
            device=target.name if target else "",
            arch=target.arch if target else "",
            fingerprint={
                **(identity.device if identity else {}),
                **(identity.versions if identity else {}),
            },
            max_slowdown=max_slowdown,
            seed=int(settings.get("search.seed", 0)),
            n_trials=sum(report.n_trials for report in reports),
            models=models,
            tasks=reports,
            spent=spent,
            payback=payback_of(spent, models, reports),
            meter=_last(database.notes(METER_NOTE, MeterFacts)),
            n_damaged=len(database.quarantined()),
            predicted_by=identity.versions.get(PREDICTED_BY, "") if identity else "",
            model_quality=model_quality(
                histories, model=str(settings.get("search.energy_model", "power"))
            ),
        )


def _last(facts: Sequence[MeterFacts]) -> MeterFacts | None:
    return facts[-1] if facts else None


def _histories(database: Database, tasks: Sequence[Task]) -> list[TaskHistory]:
    histories = {
        task.task_id: TaskHistory(task, position=position) for position, task in enumerate(tasks)
    }
    owner: dict[int, TaskHistory] = {}
    for trial in database.trials():
        history = histories.get(trial.task_id)
        if history is not None and trial.state is not TrialState.PROPOSED:
            history.add(trial)
            owner[trial.trial_id] = history
    for energy in database.energies():
        if energy.measurement is not None and energy.trial_id in owner:
            owner[energy.trial_id].add_energy(energy)
    return list(histories.values())


def _task_report(history: TaskHistory, final: Final | None, max_slowdown: float) -> TaskReport:
    workload = history.task.workload
    points = history.points()
    choice = choose(points, max_slowdown=max_slowdown)
    default = history.default_trial()
    chosen_id = final.winner_trial_id if final else choice.point.trial_id if choice else None
    chosen = next((one for one in history.trials if one.trial_id == chosen_id), None)
    return TaskReport(
        task_id=history.task.task_id,
        name=workload.name,
        op=workload.op,
        shapes=f"{_shapes(workload.inputs)} → {_shapes(workload.outputs)}",
        weight=history.task.weight,
        n_trials=len(history.trials),
        comparison=_from_final(final) if final else _from_search(history, default, chosen),
        is_final=final is not None,
        is_tie=final.is_tie if final else False,
        criterion=final.criterion if final else choice.criterion if choice else "",
        space=chosen.candidate.space if chosen else "",
        default_trial_id=default.trial_id if default else None,
        chosen_trial_id=chosen_id,
        points=tuple(
            TrialPoint(trial_id=one.trial_id, latency_us=one.latency_us, energy_mj=one.energy_mj)
            for one in points
        ),
        front=tuple(
            TrialPoint(trial_id=one.trial_id, latency_us=one.latency_us, energy_mj=one.energy_mj)
            for one in front(points)
        ),
        improvements=_improvements(history.trials),
        failures=_failures(history.trials),
    )


def _from_final(final: Final) -> Comparison:
    default, winner = final.default.measurement, final.winner.measurement
    return Comparison(
        default_latency_us=_latency(default.latency if default else None),
        latency_us=_latency(winner.latency if winner else None),
        latency_ratio=_ratio_owner(final).latency_ratio,
        default_sustained_us=_sustained(default.energy if default else None),
        sustained_us=_sustained(winner.energy if winner else None),
        sustained_ratio=_ratio_owner(final).sustained_ratio,
        default_energy_mj=_energy(default.energy if default else None),
        energy_mj=_energy(winner.energy if winner else None),
        energy_ratio=_ratio_owner(final).energy_ratio,
        no_energy_reason=_no_energy(winner.energy if winner else None),
    )


def _ratio_owner(final: Final) -> Finalist:
    """The winner, unless it is the default, whose ratio to itself says nothing."""
    if final.winner_trial_id != final.default_trial_id:
        return final.winner
    return Finalist(trial_id=final.default_trial_id)


def _from_search(history: TaskHistory, default: Trial | None, chosen: Trial | None) -> Comparison:
    default_energy = history.energy_of(default) if default else None
    energy = history.energy_of(chosen) if chosen else None
    return Comparison(
        default_latency_us=_latency(default.latency if default else None),
        latency_us=_latency(chosen.latency if chosen else None),
        default_sustained_us=_sustained(default_energy),
        sustained_us=_sustained(energy),
        default_energy_mj=_energy(default_energy),
        energy_mj=_energy(energy),
        no_energy_reason=_no_energy(energy),
    )


def _model_reports(notes: Iterable[list[MeasuredEntry]]) -> tuple[ModelReport, ...]:
    # Every build measures anew; the latest of each entry counts.
    latest = {
        (measured.entry, tuple(sorted(measured.dims.items()))): measured
        for note in notes
        for measured in note
    }
    return tuple(
        ModelReport(
            entry=measured.entry,
            dims=measured.dims,
            comparison=Comparison(
                default_latency_us=_latency(measured.gain.default_latency),
                latency_us=_latency(measured.gain.latency),
                latency_ratio=measured.gain.latency_ratio,
                default_sustained_us=_sustained(measured.gain.default_energy),
                sustained_us=_sustained(measured.gain.energy),
                sustained_ratio=measured.gain.sustained_ratio,
                default_energy_mj=_energy(measured.gain.default_energy),
                energy_mj=_energy(measured.gain.energy),
                energy_ratio=measured.gain.energy_ratio,
                no_energy_reason=_no_energy(measured.gain.energy),
            ),
        )
        for measured in latest.values()
    )


def _latency(latency: LatencyMeasurement | None) -> Measured | None:
    if latency is None or not latency.verdict.usable:
        return None
    return Measured(value=latency.latency_us, ci95=latency.ci95_us)


def _sustained(energy: EnergyMeasurement | None) -> Measured | None:
    if energy is None or energy.sustained_latency_us is None or not energy.verdict.usable:
        return None
    return Measured(value=energy.sustained_latency_us, ci95=None)


def _energy(energy: EnergyMeasurement | None) -> Measured | None:
    if energy is None or energy.energy_mj is None or not energy.verdict.usable:
        return None
    return Measured(value=energy.energy_mj, ci95=energy.ci95_mj)


def _no_energy(energy: EnergyMeasurement | None) -> str:
    if energy is None:
        return "no energy measurement was taken"
    if _energy(energy) is not None:
        return ""
    return energy.reason or energy.verdict.value.replace("_", " ")


def _improvements(trials: Sequence[Trial]) -> tuple[Improvement, ...]:
    steps: list[Improvement] = []
    for n_trials, trial in enumerate(trials, start=1):
        if trial.state is not TrialState.OK or trial.latency is None:
            continue
        if not steps or trial.latency.latency_us < steps[-1].latency_us:
            steps.append(Improvement(n_trials=n_trials, latency_us=trial.latency.latency_us))
    return tuple(steps)


def _failures(trials: Sequence[Trial]) -> tuple[FailureKind, ...]:
    by_state: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.failure is not None:
            by_state.setdefault(trial.state.value, []).append(trial)
    kinds = [
        FailureKind(state=state, count=len(failed), example=_first_line(failed[0]))
        for state, failed in by_state.items()
    ]
    return tuple(sorted(kinds, key=lambda kind: -kind.count))


def _first_line(trial: Trial) -> str:
    lines = trial.failure.message.strip().splitlines() if trial.failure else []
    return lines[0] if lines else ""


def _spent(sessions: Sequence[Session]) -> Spent:
    joules = [one.window_energy_j for one in sessions if one.window_energy_j is not None]
    return Spent(
        n_sessions=len(sessions),
        seconds={
            "waiting for builds": sum(one.build_s for one in sessions),
            "checking and timing": sum(one.latency_s for one in sessions),
            "measuring energy": sum(one.energy_s for one in sessions),
            "measuring finalists": sum(one.final_s for one in sessions),
            "models and proposals": sum(one.model_s for one in sessions),
        },
        window_energy_j=sum(joules) if joules else None,
        device_energy_j=_sum([one.device_energy_j for one in sessions]),
    )


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _shapes(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.dtype}{list(spec.shape)}" for spec in specs)

"""Between rows of the database and the records they hold."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from schedules.candidate import Candidate
from search.records import BadRecord, checksum, require, unpack
from search.stored import EnergyPlan, EnergyRecord, Round
from search.trial import (
    Build,
    EnergyMeasurement,
    Failure,
    LatencyMeasurement,
    Trial,
    TrialState,
)

T = TypeVar("T")
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """The part of a trial that is written when it finishes."""

    state: TrialState
    build: Build | None
    latency: LatencyMeasurement | None
    failure: Failure | None
    same_as: int | None
    spent_s: float


def result_of(trial: Trial) -> TrialResult:
    """What a finished trial adds to its proposal."""
    return TrialResult(
        state=trial.state,
        build=trial.build,
        latency=trial.latency,
        failure=trial.failure,
        same_as=trial.same_as,
        spent_s=trial.spent_s,
    )


def parse_payload(row: Row, record_type: type[T]) -> T:
    """The record of a (key, payload, checksum) row."""
    key, data, recorded = row
    require(recorded, key, data)
    return unpack(data, record_type)


def proposal_row(trial: Trial) -> Row:
    """A proposed trial as the first seven columns of its row."""
    key = (trial.trial_id, trial.task_id, trial.round_index, trial.origin, trial.candidate.space)
    decisions = zlib.compress(trial.candidate.decisions.encode("utf-8"), 6)
    return (*key, decisions, checksum(*key, decisions))


def parse_trial(row: Row) -> Trial:
    """The trial of a full row; ``PROPOSED`` while its result columns are empty."""
    trial_id, task_id, round_index, origin, space, decisions, recorded = row[:7]
    state, data, result_recorded = row[7:]
    require(recorded, trial_id, task_id, round_index, origin, space, decisions)
    try:
        text = zlib.decompress(decisions).decode("utf-8")
    except (zlib.error, UnicodeDecodeError, TypeError) as error:
        raise BadRecord(f"decisions do not read: {error}") from error
    trial = Trial(
        trial_id=trial_id,
        task_id=task_id,
        round_index=round_index,
        origin=origin,
        candidate=Candidate(space=space, decisions=text),
    )
    if state is None:
        return trial
    require(result_recorded, trial_id, state, data)
    result = unpack(data, TrialResult)
    return replace(
        trial,
        state=result.state,
        build=result.build,
        latency=result.latency,
        failure=result.failure,
        same_as=result.same_as,
        spent_s=result.spent_s,
    )


def parse_energy(row: Row) -> EnergyRecord:
    """The energy measurement of a full row, planned or taken."""
    energy_id, round_index, phase, plan, recorded, data, data_recorded = row
    require(recorded, round_index, phase, plan)
    measurement = None
    if data is not None:
        require(data_recorded, energy_id, data)
        measurement = unpack(data, EnergyMeasurement)
    return EnergyRecord(
        energy_id=energy_id,
        plan=unpack(plan, EnergyPlan),
        round_index=round_index,
        phase=phase,
        measurement=measurement,
    )


def parse_round(row: Row) -> Round:
    """The round of a full row."""
    _, task_id, round_index, n_proposed, energy_planned, recorded = row
    require(recorded, task_id, round_index, n_proposed)
    return Round(
        task_id=task_id,
        round_index=round_index,
        n_proposed=n_proposed,
        energy_planned=bool(energy_planned),
    )

"""Rows of rounds and of their trials: a proposal first, a result added once."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from schedules.candidate import Candidate
from search.records import BadRecord, Row, checksum, pack, require, unpack
from search.stored import Round
from search.trial import Build, Failure, LatencyMeasurement, Trial, TrialState

SELECT_TRIALS = (
    "SELECT trial_id, task_id, round_index, origin, space, decisions, checksum,"
    " state, result, result_checksum FROM trials ORDER BY trial_id"
)
SELECT_ROUNDS = (
    "SELECT round_id, task_id, round_index, n_proposed, energy_planned, checksum"
    " FROM rounds ORDER BY round_id"
)
# A damaged trial's number is never given to another one.
SELECT_NUMBERS = (
    "SELECT max(trial_id) FROM trials UNION ALL SELECT max(CAST(row_id AS INTEGER))"
    " FROM quarantine WHERE origin = 'trials'"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """The part of a trial that is written when it finishes."""

    state: TrialState
    build: Build | None
    latency: LatencyMeasurement | None
    failure: Failure | None
    same_as: int | None
    spent_s: float
    loop_s: float | None = None


def _result_of(trial: Trial) -> TrialResult:
    """What a finished trial adds to its proposal."""
    return TrialResult(
        state=trial.state,
        build=trial.build,
        latency=trial.latency,
        failure=trial.failure,
        same_as=trial.same_as,
        spent_s=trial.spent_s,
        loop_s=trial.loop_s,
    )


def insert_round(raw: sqlite3.Connection, task_id: str, round_index: int, n_proposed: int) -> None:
    """Add a round."""
    key = (task_id, round_index, n_proposed)
    raw.execute(
        "INSERT INTO rounds (task_id, round_index, n_proposed, checksum) VALUES (?, ?, ?, ?)",
        (*key, checksum(*key)),
    )


def note_energy_planned(raw: sqlite3.Connection, task_id: str, round_index: int) -> None:
    """Note that a round's energy measurements have been chosen."""
    raw.execute(
        "UPDATE rounds SET energy_planned = 1 WHERE task_id = ? AND round_index = ?",
        (task_id, round_index),
    )


def insert_trials(raw: sqlite3.Connection, trials: Sequence[Trial]) -> None:
    """Add proposals."""
    raw.executemany(
        "INSERT INTO trials (trial_id, task_id, round_index, origin, space, decisions,"
        " checksum) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [_proposal_row(trial) for trial in trials],
    )


def _proposal_row(trial: Trial) -> Row:
    """A proposed trial as the first seven columns of its row."""
    key = (trial.trial_id, trial.task_id, trial.round_index, trial.origin, trial.candidate.space)
    decisions = zlib.compress(trial.candidate.decisions.encode("utf-8"), 6)
    return (*key, decisions, checksum(*key, decisions))


def add_result(raw: sqlite3.Connection, trial: Trial) -> bool:
    """Add how a trial ended; whether it was there and had not ended before."""
    state, data = trial.state.value, pack(_result_of(trial))
    changed = raw.execute(
        "UPDATE trials SET state = ?, result = ?, result_checksum = ?"
        " WHERE trial_id = ? AND state IS NULL",
        (state, data, checksum(trial.trial_id, state, data), trial.trial_id),
    )
    return changed.rowcount == 1


def parse_trial(row: Row) -> Trial:
    """The trial of a full row; ``PROPOSED`` while its result columns are empty.

    Raises:
        BadRecord: It is damaged.
    """
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
        loop_s=result.loop_s,
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

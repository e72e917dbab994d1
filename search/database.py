"""Everything a run remembers, in one SQLite file: the checkpoint and the source of reports.

Proposals of a round are written together before anything is built; each trial is
then finished exactly once, in its own transaction. A process killed at any moment
therefore loses at most the trial it was measuring, and the next start finds the rest
of the round waiting:

    propose(round) -> finish(trial) ... finish(trial) -> plan_energy -> finish_energy ...

Any number of readers may open the file while one tuner writes (see ``run_lock``).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from schedules.task import Task
from search.connection import Connection
from search.damage import CarefulReader
from search.energy_table import SELECT_ENERGIES, add_measurement, insert_energy, parse_energy
from search.errors import TrialFinished, UnknownTrial
from search.final import Final
from search.identity import Identity, require_same
from search.keyed_table import parse_payload, put
from search.records import Row, checksum, pack, require, unpack
from search.stored import (
    EnergyPlan,
    EnergyRecord,
    Proposal,
    Quarantined,
    Round,
    Session,
)
from search.trial import EnergyMeasurement, Trial, TrialState
from search.trial_table import (
    SELECT_NUMBERS,
    SELECT_ROUNDS,
    SELECT_TRIALS,
    add_result,
    insert_round,
    insert_trials,
    note_energy_planned,
    parse_round,
    parse_trial,
)

DATABASE_NAME = "trials.sqlite"

T = TypeVar("T")


class Database:
    """The SQLite file of a run folder.

    Records handed out never change afterwards. A finished trial is immutable. A row that
    no longer reads is set aside once, with one warning, and everything else loads.
    """

    def __init__(self, path: Path | str, *, read_only: bool = False) -> None:
        """Open or create the file; folder ``path`` means ``path/trials.sqlite``.

        Raises:
            DatabaseMissing: ``read_only`` and no such file.
            DatabaseLocked: Another process holds it.
            DatabaseVersion: Written with another layout.
            DatabaseDamaged: Not ours, or its pages contradict each other.
            DatabaseUnwritable: No right or no space to write.
        """
        path = Path(path)
        self.path = path / DATABASE_NAME if path.is_dir() else path
        self._connection = Connection(self.path, read_only=read_only)
        self._reader = CarefulReader(self._connection)

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; everything finished is already on disk."""
        self._connection.close()

    # Identity and tasks

    def claim(self, identity: Identity, *, config_json: str) -> None:
        """Make this the folder of a run, or check that it already is.

        Args:
            identity: What must not change between starts.
            config_json: The whole effective configuration, budget included, for people;
                that of the latest start is kept.

        Raises:
            IdentityMismatch: The folder belongs to another run.
        """
        recorded = self.identity()
        if recorded is not None:
            require_same(recorded, identity, folder=str(self.path.parent))
        with self._connection.transaction() as raw:
            put(raw, "meta", "identity", identity)
            put(raw, "meta", "config", config_json)

    def identity(self) -> Identity | None:
        """The identity that claimed the folder, ``None`` if nobody did."""
        return self._meta("identity", Identity)

    def config_json(self) -> str | None:
        """The effective configuration of the latest start."""
        return self._meta("config", str)

    def _meta(self, key: str, record_type: type[T]) -> T | None:
        query = "SELECT key, payload, checksum FROM meta WHERE key = ?"
        found = self._reader.load(
            "meta", query, lambda row: parse_payload(row, record_type), (key,)
        )
        return found[0] if found else None

    def store_tasks(self, tasks: Sequence[Task]) -> None:
        """Replace the list of tasks."""
        with self._connection.transaction() as raw:
            raw.execute("DELETE FROM tasks")
            for position, task in enumerate(tasks):
                put(raw, "tasks", position, task)

    def tasks(self) -> list[Task]:
        """The tasks in the order they were given."""
        query = "SELECT position, payload, checksum FROM tasks ORDER BY position"
        return self._reader.load("tasks", query, lambda row: parse_payload(row, Task))

    # Trials

    def propose(self, task_id: str, round_index: int, proposals: Sequence[Proposal]) -> list[Trial]:
        """Store the proposals of one round in one transaction.

        Returns:
            Their trials, numbered in the given order, all ``PROPOSED``.
        """
        return self.propose_rounds([(task_id, round_index, proposals)])

    def propose_rounds(self, rounds: Iterable[tuple[str, int, Sequence[Proposal]]]) -> list[Trial]:
        """Like :meth:`propose` for several tasks at once, given as (task, round, proposals)."""
        trials: list[Trial] = []
        with self._connection.transaction() as raw:
            next_id = self._last_trial_id() + 1
            for task_id, round_index, proposals in rounds:
                for proposal in proposals:
                    trials.append(
                        Trial(
                            trial_id=next_id + len(trials),
                            task_id=task_id,
                            round_index=round_index,
                            origin=proposal.origin,
                            candidate=proposal.candidate,
                        )
                    )
                insert_round(raw, task_id, round_index, len(proposals))
            insert_trials(raw, trials)
        return trials

    def _last_trial_id(self) -> int:
        rows = self._connection.read(SELECT_NUMBERS)
        return max((int(str(row[0])) for row in rows if row[0] is not None), default=0)

    def finish(self, trial: Trial) -> Trial:
        """Store how a proposed trial ended, once and for all.

        Raises:
            TrialFinished: It already ended.
            UnknownTrial: It was never proposed here.
            ValueError: Its state is still ``PROPOSED``.
        """
        if trial.state is TrialState.PROPOSED:
            raise ValueError(f"trial {trial.trial_id} has no final state yet")
        with self._connection.transaction() as raw:
            if not add_result(raw, trial):
                raise self._cannot_finish(trial)
        return trial

    def _cannot_finish(self, trial: Trial) -> Exception:
        rows = self._connection.read(
            "SELECT state FROM trials WHERE trial_id = ?", (trial.trial_id,)
        )
        if not rows:
            return UnknownTrial(
                f"cannot finish trial {trial.trial_id}: {self.path} holds no such trial. "
                "It was never proposed, or was set aside as damaged; run tuning again."
            )
        return TrialFinished(
            f"cannot finish trial {trial.trial_id} as {trial.state.value}: it is recorded as "
            f"{rows[0][0]} and finished trials never change. Propose a new trial instead."
        )

    def trials(self) -> list[Trial]:
        """Every trial, finished or not, in the order of proposal."""
        return self._reader.load("trials", SELECT_TRIALS, parse_trial)

    def rounds(self) -> list[Round]:
        """Every round in the order of proposal."""
        return self._reader.load("rounds", SELECT_ROUNDS, parse_round)

    # Energy

    def plan_energy(
        self, task_id: str, round_index: int, plans: Sequence[EnergyPlan]
    ) -> list[EnergyRecord]:
        """Store which trials of a round get an energy measurement, before taking any."""
        with self._connection.transaction() as raw:
            note_energy_planned(raw, task_id, round_index)
            return [insert_energy(raw, plan, round_index, "search") for plan in plans]

    def finish_energy(self, energy: EnergyRecord, measurement: EnergyMeasurement) -> EnergyRecord:
        """Store a planned measurement, usable or not.

        Raises:
            TrialFinished: It was already taken.
        """
        with self._connection.transaction() as raw:
            if not add_measurement(raw, energy, measurement):
                raise TrialFinished(
                    f"cannot store energy measurement {energy.energy_id} of trial "
                    f"{energy.trial_id}: it is not waiting. Plan a new measurement instead."
                )
        return replace(energy, measurement=measurement)

    def energies(self) -> list[EnergyRecord]:
        """Every energy measurement, planned or taken, in the order of planning."""
        return self._reader.load("energies", SELECT_ENERGIES, parse_energy)

    # Outcomes, sessions, notes

    def store_final(self, final: Final) -> None:
        """Store the outcome of a task with its fresh energies; replaces an earlier outcome."""
        with self._connection.transaction() as raw:
            put(raw, "finals", final.task_id, final)
            for finalist in final.finalists:
                if finalist.measurement is not None:
                    plan = EnergyPlan(trial_id=finalist.trial_id)
                    energy = insert_energy(raw, plan, -1, "final")
                    add_measurement(raw, energy, finalist.measurement.energy)

    def finals(self) -> dict[str, Final]:
        """The latest outcome of every task that has one, by task id."""
        query = "SELECT task_id, payload, checksum FROM finals ORDER BY rowid"
        found = self._reader.load("finals", query, lambda row: parse_payload(row, Final))
        return {final.task_id: final for final in found}

    def start_session(self) -> Session:
        """Note that the tuner started."""
        with self._connection.transaction() as raw:
            rows = self._connection.read("SELECT coalesce(max(session_id), 0) FROM sessions")
            session = Session(session_id=int(str(rows[0][0])) + 1, started_utc=_now_utc())
            put(raw, "sessions", session.session_id, session)
        return session

    def update_session(self, session: Session, *, ended: bool = False) -> Session:
        """Store what a session spent so far; ``ended`` also notes the time."""
        if ended:
            session = replace(session, ended_utc=_now_utc())
        with self._connection.transaction() as raw:
            put(raw, "sessions", session.session_id, session)
        return session

    def sessions(self) -> list[Session]:
        """Every start of the tuner, in order."""
        query = "SELECT session_id, payload, checksum FROM sessions ORDER BY session_id"
        return self._reader.load("sessions", query, lambda row: parse_payload(row, Session))

    def add_note(self, kind: str, value: Any) -> None:
        """Keep a JSON value of some kind, for example a whole-model measurement."""
        data = pack(value)
        with self._connection.transaction() as raw:
            raw.execute(
                "INSERT INTO notes (kind, payload, checksum) VALUES (?, ?, ?)",
                (kind, data, checksum(kind, data)),
            )

    def notes(self, kind: str, record_type: type[T]) -> list[T]:
        """Every kept value of a kind, in order, as the given type."""

        def parse(row: Row) -> T:
            require(row[2], kind, row[1])
            return unpack(row[1], record_type)

        query = "SELECT note_id, payload, checksum FROM notes WHERE kind = ? ORDER BY note_id"
        return self._reader.load("notes", query, parse, (kind,))

    # Damage

    def quarantined(self) -> list[Quarantined]:
        """Rows that were set aside, in this and in earlier sessions."""
        return self._reader.quarantined()


def _now_utc() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schedules.candidate import Candidate
from schedules.target import known_target
from search.database import Database
from search.errors import (
    DatabaseDamaged,
    DatabaseMissing,
    DatabaseVersion,
    IdentityMismatch,
    TrialFinished,
    UnknownTrial,
)
from search.identity import Identity
from search.stored import EnergyPlan, Proposal
from search.trial import TrialState
from tests.doubles import make_task
from tests.search.makers import energy, failed, finished, proposal


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path) as opened:
        yield opened


def raw(database: Database, statement: str, *values: object) -> None:
    connection = sqlite3.connect(database.path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


class TestTrials:
    def test_proposals_are_numbered_from_one_in_the_given_order(self, database: Database) -> None:
        first = database.propose("a", 0, [proposal(1), proposal(2)])
        second = database.propose("b", 0, [proposal(3)])
        assert [trial.trial_id for trial in first + second] == [1, 2, 3]
        assert database.trials() == first + second

    def test_a_finished_trial_is_read_back_as_it_was_given(self, tmp_path: Path) -> None:
        with Database(tmp_path) as database:
            one, two = database.propose("a", 3, [proposal(1), proposal(2)])
            expected = [database.finish(finished(one)), database.finish(failed(two))]
        with Database(tmp_path) as database:
            assert database.trials() == expected

    def test_finished_trial_cannot_change(self, database: Database) -> None:
        (trial,) = database.propose("a", 0, [proposal(1)])
        database.finish(finished(trial))
        with pytest.raises(TrialFinished, match="trial 1 as run_error: it is recorded as ok"):
            database.finish(failed(trial))
        assert database.trials()[0].state is TrialState.OK

    def test_a_trial_without_final_state_is_not_stored(self, database: Database) -> None:
        (trial,) = database.propose("a", 0, [proposal(1)])
        with pytest.raises(ValueError, match="no final state"):
            database.finish(trial)

    def test_an_unknown_trial_cannot_finish(self, database: Database) -> None:
        (trial,) = database.propose("a", 0, [proposal(1)])
        with pytest.raises(UnknownTrial, match="trial 9"):
            database.finish(finished(replace(trial, trial_id=9)))

    def test_proposals_of_a_round_are_stored_all_or_none(self, database: Database) -> None:
        def breaks() -> Iterator[tuple[str, int, list[Proposal]]]:
            yield "a", 0, [proposal(1)]
            raise RuntimeError("cut off")

        with pytest.raises(RuntimeError, match="cut off"):
            database.propose_rounds(breaks())
        assert database.trials() == []
        assert database.rounds() == []

    def test_long_decisions_take_little_room(self, database: Database) -> None:
        text = '["SampleCategorical", [1, 2, 4, 8], "l14"], ' * 500
        candidate = Candidate(space="tvm", decisions=text)
        one = Proposal(candidate=candidate, origin="sample")
        database.propose("a", 0, [one] * 100)
        assert database.trials()[99].candidate == candidate
        database.close()
        assert database.path.stat().st_size < 20 * len(text)

    @settings(
        max_examples=15,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(text=st.text(st.characters(exclude_categories=["Cs"])), space=st.text(max_size=8))
    def test_any_text_survives(self, database: Database, text: str, space: str) -> None:
        space = space.encode("utf-8", "ignore").decode()
        candidate = Candidate(space=space, decisions=text)
        database.propose("a", 0, [Proposal(candidate=candidate, origin="sample")])
        assert database.trials()[-1].candidate == candidate


class TestEnergies:
    def test_planned_energies_wait_until_taken_once(self, database: Database) -> None:
        database.propose("a", 0, [proposal(1), proposal(2)])
        plans = [EnergyPlan(trial_id=2, predicted_mj=3.5), EnergyPlan(trial_id=1, is_control=True)]
        planned = database.plan_energy("a", 0, plans)
        assert database.energies() == planned
        assert [record.plan for record in planned] == plans
        taken = database.finish_energy(planned[0], energy(4.0))
        assert database.energies() == [taken, planned[1]]
        with pytest.raises(TrialFinished, match="energy measurement 1 of trial 2"):
            database.finish_energy(planned[0], energy(5.0))

    def test_planning_marks_the_round(self, database: Database) -> None:
        database.propose("a", 0, [proposal(1)])
        database.propose("a", 1, [proposal(2)])
        database.plan_energy("a", 1, [])
        assert [one.energy_planned for one in database.rounds()] == [False, True]


class TestRun:
    identity = Identity(model_hash="m", target=known_target("h200"), device={"driver": "580"})

    def test_another_identity_is_refused_with_the_differing_fields(
        self, database: Database
    ) -> None:
        database.claim(self.identity, config_json="{}")
        other = replace(self.identity, device={"driver": "590"})
        with pytest.raises(IdentityMismatch, match=r"device\.driver: recorded '580', found '590'"):
            database.claim(other, config_json="{}")
        assert database.identity() == self.identity

    def test_the_same_identity_continues_and_keeps_the_latest_configuration(
        self, database: Database
    ) -> None:
        database.claim(self.identity, config_json='{"n_trials": 1}')
        database.claim(self.identity, config_json='{"n_trials": 2}')
        assert database.config_json() == '{"n_trials": 2}'

    def test_tasks_keep_their_order(self, database: Database) -> None:
        tasks = [make_task(name, weight=i + 1) for i, name in enumerate("zab")]
        database.store_tasks(tasks)
        assert database.tasks() == tasks

    def test_sessions_tell_start_end_and_cost(self, database: Database) -> None:
        session = database.start_session()
        assert database.sessions()[0].ended_utc is None
        database.update_session(replace(session, latency_s=2.5, stopped_by="budget"), ended=True)
        found = database.sessions()[0]
        assert (found.latency_s, found.stopped_by) == (2.5, "budget")
        assert found.ended_utc is not None

    def test_notes_are_kept_by_kind(self, database: Database) -> None:
        database.add_note("model", {"latency_us": 5.0})
        database.add_note("other", [1])
        assert database.notes("model", dict) == [{"latency_us": 5.0}]

    def test_a_reader_sees_what_a_tuner_has_finished(self, database: Database) -> None:
        database.propose("a", 0, [proposal(1)])
        with Database(database.path, read_only=True) as reader:
            assert len(reader.trials()) == 1


class TestDamage:
    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE trials SET decisions = x'00' WHERE trial_id = 2",
            "UPDATE trials SET origin = 'mutate' WHERE trial_id = 2",
            "UPDATE trials SET result = x'00' WHERE trial_id = 2",
            "UPDATE trials SET state = 'rejected' WHERE trial_id = 2",
            "UPDATE trials SET state = NULL, checksum = 'f' WHERE trial_id = 2",
        ],
    )
    def test_a_damaged_trial_is_set_aside_once_and_the_others_load(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str
    ) -> None:
        with Database(tmp_path) as database:
            for trial in database.propose("a", 0, [proposal(i) for i in range(3)]):
                database.finish(finished(trial))
            raw(database, change)
        with Database(tmp_path) as database, caplog.at_level(logging.WARNING):
            assert [trial.trial_id for trial in database.trials()] == [1, 3]
            assert [trial.trial_id for trial in database.trials()] == [1, 3]
            (aside,) = database.quarantined()
            assert (aside.table, aside.row_id) == ("trials", "2")
        assert len(caplog.records) == 1
        with Database(tmp_path) as database:
            assert database.quarantined() == [aside]

    def test_the_number_of_a_damaged_trial_is_not_given_away(self, database: Database) -> None:
        database.propose("a", 0, [proposal(1), proposal(2)])
        raw(database, "UPDATE trials SET checksum = 'x' WHERE trial_id = 2")
        database.trials()
        assert database.propose("a", 1, [proposal(3)])[0].trial_id == 3

    def test_a_reader_reports_damage_without_writing(self, database: Database) -> None:
        database.propose("a", 0, [proposal(1)])
        raw(database, "UPDATE trials SET checksum = 'x'")
        with Database(database.path, read_only=True) as reader:
            assert reader.trials() == []
            assert [one.table for one in reader.quarantined()] == ["trials"]
        with Database(database.path, read_only=True) as reader:
            assert reader.quarantined() == []

    def test_a_damaged_final_session_and_energy_cost_themselves_only(
        self, database: Database
    ) -> None:
        database.start_session()
        database.add_note("model", 1)
        database.propose("a", 0, [proposal(1)])
        database.plan_energy("a", 0, [EnergyPlan(trial_id=1)])
        for table in ("sessions", "notes", "energies"):
            raw(database, f"UPDATE {table} SET checksum = 'x'")
        assert database.sessions() == []
        assert database.notes("model", int) == []
        assert database.energies() == []
        assert len(database.quarantined()) == 3
        assert len(database.trials()) == 1

    def test_another_programs_database_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "trials.sqlite"
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.commit()
        connection.close()
        with pytest.raises(DatabaseDamaged, match="another program wrote it"):
            Database(path)

    def test_a_file_that_is_no_database_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "trials.sqlite"
        path.write_bytes(b"not a database" * 100)
        with pytest.raises(DatabaseDamaged, match="not a database"):
            Database(path)
        assert path.read_bytes() == b"not a database" * 100

    def test_another_layout_is_refused(self, database: Database) -> None:
        raw(database, "PRAGMA user_version = 99")
        with pytest.raises(DatabaseVersion, match="version 99"):
            Database(database.path)

    def test_reading_nothing_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(DatabaseMissing, match="no such file"):
            Database(tmp_path / "trials.sqlite", read_only=True)

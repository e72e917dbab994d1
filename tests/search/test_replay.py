"""A recorded run, searched again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.errors import IllegalCandidate
from search.errors import BadRecording
from search.ports import FinalEffort
from search.recording import RECORDING_VERSION, RecordedTask, Recording, packed_features
from search.recording_file import read_recording, write_recording
from search.recording_joining import joined
from search.replay import N_NEIGHBOURS, ReplayBuilder, ReplayRunner, ReplaySpace
from search.trial import Build, Failure, Verdict
from tests.doubles import energy_mj, faults_by_hash, latency_us
from tests.simulated_recording import simulated_recording


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return simulated_recording(tmp_path_factory.mktemp("run"), fault=faults_by_hash)


@pytest.fixture(scope="module")
def task(recording: Recording) -> RecordedTask:
    return recording.tasks[0]


class TestFile:
    def test_reads_what_was_written(self, recording: Recording, tmp_path: Path) -> None:
        path = tmp_path / "one.effrec"
        write_recording(recording, path)
        assert read_recording(path) == recording
        assert list(tmp_path.iterdir()) == [path]

    def test_is_small(self, recording: Recording, tmp_path: Path) -> None:
        write_recording(recording, tmp_path / "one.effrec")
        n_candidates = sum(len(space.candidates) for t in recording.tasks for space in t.spaces)
        assert (tmp_path / "one.effrec").stat().st_size < 200 * n_candidates

    def test_a_cut_file_is_refused_at_any_byte(self, recording: Recording, tmp_path: Path) -> None:
        path = tmp_path / "one.effrec"
        write_recording(recording, path)
        whole = path.read_bytes()
        for n_bytes in range(0, len(whole), len(whole) // 20):
            path.write_bytes(whole[:n_bytes])
            with pytest.raises(BadRecording, match="cannot read recording"):
                read_recording(path)

    def test_another_version_is_refused(self, recording: Recording, tmp_path: Path) -> None:
        path = tmp_path / "one.effrec"
        write_recording(replace(recording, schema_version=RECORDING_VERSION + 1), path)
        with pytest.raises(BadRecording, match="its version is 2, this program reads 1"):
            read_recording(path)

    def test_a_file_without_tasks_is_refused(self, recording: Recording, tmp_path: Path) -> None:
        write_recording(replace(recording, tasks=()), tmp_path / "a.effrec")
        with pytest.raises(BadRecording, match="holds no task, expected at least one"):
            read_recording(tmp_path / "a.effrec")

    def test_features_of_half_a_candidate_are_refused(
        self, recording: Recording, tmp_path: Path
    ) -> None:
        task, *others = recording.tasks
        space, *rest = task.spaces
        odd = replace(task, spaces=(replace(space, columns=space.columns[:-4]), *rest))
        write_recording(replace(recording, tasks=(odd, *others)), tmp_path / "a.effrec")
        with pytest.raises(BadRecording, match="bytes of features for"):
            read_recording(tmp_path / "a.effrec")

    def test_features_survive_packing(self) -> None:
        rows = np.arange(6, dtype=np.float32).reshape(3, 2)
        assert packed_features(rows) == np.array([0, 2, 4, 1, 3, 5], dtype="<f4").tobytes()


class TestAnswers:
    def test_every_candidate_is_answered_as_it_was_recorded(
        self, recording: Recording, task: RecordedTask
    ) -> None:
        builder, runner = ReplayBuilder(recording), ReplayRunner(recording)
        seen: dict[str, int] = {"measured": 0, "not built": 0, "failed": 0}
        for space in task.spaces:
            for one in space.candidates:
                build = builder.submit(task.task, one.candidate).result()
                if isinstance(build, Failure):
                    assert faults_by_hash(one.candidate) is not None
                    seen["not built"] += 1
                    continue
                timed = runner.time(task.task, build)
                if isinstance(timed, Failure) or timed.verdict is not Verdict.OK:
                    seen["failed"] += 1
                    continue
                assert timed.latency_us == latency_us(one.candidate)
                energy = runner.measure_energy(task.task, build)
                assert energy.energy_mj == pytest.approx(energy_mj(one.candidate))
                seen["measured"] += 1
        assert min(seen.values()) > 0

    def test_a_candidate_nobody_tried_is_a_failed_build(
        self, recording: Recording, task: RecordedTask
    ) -> None:
        unknown = replace(task.default.candidate, decisions="[]")
        outcome = ReplayBuilder(recording).submit(task.task, unknown).result()
        assert isinstance(outcome, Failure)

    def test_an_energy_that_was_not_recorded_is_unmeasured_not_made_up(
        self, recording: Recording, task: RecordedTask
    ) -> None:
        bare = replace(
            task, binaries=tuple(replace(b, windows=(), finals=()) for b in task.binaries)
        )
        runner = ReplayRunner(replace(recording, tasks=(bare,)))
        build = _build(recording, task)
        assert runner.measure_energy(task.task, build).verdict is Verdict.UNMEASURED
        assert not runner.measures_energy
        (final,) = runner.compare(task.task, [build], FinalEffort(n_rounds=3, n_energy_rounds=3))
        assert not isinstance(final, Failure)
        assert final.energy_ratios == ()
        assert len(final.latency_ratios) == 3

    def test_finals_scatter_by_the_recorded_noise_and_the_same_each_time(
        self, recording: Recording, task: RecordedTask
    ) -> None:
        build = _build(recording, task)
        binary = next(one for one in task.binaries if one.binary_id == build.binary_id)
        # The simulated meter states +- 0.1 mJ.
        best = binary.energy_mj()
        assert best is not None
        assert binary.noise_share() == pytest.approx(0.1 / 1.96 / best)
        runs = [
            ReplayRunner(recording).compare(
                task.task, [build], FinalEffort(n_rounds=400, n_energy_rounds=400)
            )
            for _ in range(2)
        ]
        assert runs[0] == runs[1]
        first = runs[0][0]
        assert not isinstance(first, Failure)
        assert first.energy_ratios == (1.0,) * 400
        assert first.energy.energy_mj == pytest.approx(best, rel=3 * binary.noise_share() / 20)


class TestSpace:
    def test_samples_without_repeating_until_all_were_seen(self, task: RecordedTask) -> None:
        space = ReplaySpace(task.spaces[0])
        found = space.sample(10**6, np.random.default_rng(0))
        assert len({one.candidate_id for one in found}) == len(task.spaces[0].candidates)

    def test_mutates_to_one_of_the_nearest(self, task: RecordedTask) -> None:
        space, rng = ReplaySpace(task.spaces[0]), np.random.default_rng(0)
        everyone = space.sample(1000, rng)
        parent = everyone[0]
        rows = space.features(everyone)
        scaled = rows / rows.std(axis=0)
        order = np.argsort(np.square(scaled - scaled[0]).sum(axis=1), kind="stable")
        near = {everyone[i].candidate_id for i in order[1 : N_NEIGHBOURS + 4]}
        children = [one for one in space.mutate([parent] * 50, rng) if one is not None]
        assert len(children) == 50
        assert {one.candidate_id for one in children} <= near
        assert len({one.candidate_id for one in children}) > N_NEIGHBOURS // 2

    def test_candidates_of_elsewhere_have_no_features_and_no_program(
        self, task: RecordedTask
    ) -> None:
        space = ReplaySpace(task.spaces[0])
        with pytest.raises(IllegalCandidate, match="was not recorded"):
            space.features([task.default.candidate])
        with pytest.raises(IllegalCandidate, match="recorded, not compiled"):
            space.realise(task.spaces[0].candidates[0].candidate)


class TestJoined:
    def test_a_task_of_two_recordings_keeps_what_each_tried(
        self, recording: Recording, tmp_path: Path
    ) -> None:
        other = simulated_recording(tmp_path, seed=7)
        both = joined([recording, other])
        for task, one, two in zip(both.tasks, recording.tasks, other.tasks, strict=True):
            ids = [
                {c.candidate.candidate_id for s in part.spaces for c in s.candidates}
                for part in (task, one, two)
            ]
            assert ids[0] == ids[1] | ids[2]
            assert len(ids[0]) > len(ids[1])
            for space in task.spaces:
                knobs = ReplaySpace(space).features([c.candidate for c in space.candidates])
                expected = [json.loads(c.candidate.decisions) for c in space.candidates]
                np.testing.assert_array_equal(knobs, expected)

    def test_joining_with_itself_doubles_the_windows_alone(self, recording: Recording) -> None:
        twice = joined([recording, recording])
        assert twice.command == recording.command
        assert [t.spaces for t in twice.tasks] == [t.spaces for t in recording.tasks]
        assert len(twice.tasks[0].binaries[0].windows) == 2 * len(
            recording.tasks[0].binaries[0].windows
        )

    def test_boards_of_one_kind_do_not_mix_within_a_workload(self, recording: Recording) -> None:
        def on(board: str, tasks: Sequence[RecordedTask]) -> Recording:
            moved = tuple(replace(task, board=board) for task in tasks)
            return replace(recording, device={"gpu_uuid": board, "name": "G"}, tasks=moved)

        poorer = [replace(one, binaries=one.binaries[:3]) for one in recording.tasks]
        first = replace(on("a", poorer[:1]), command="first")
        found = joined([first, replace(on("b", recording.tasks), command="second")])
        assert found.command == "first; second"
        assert [task.board for task in found.tasks] == ["b", "b"]
        assert found.tasks[0].binaries == recording.tasks[0].binaries
        assert found.device == {"name": "G"}

    def test_features_of_other_versions_do_not_mix(self, recording: Recording) -> None:
        task, *others = recording.tasks
        space, *rest = task.spaces
        candidates = tuple(
            replace(one, candidate=replace(one.candidate, decisions=f"{one.candidate.decisions} "))
            for one in space.candidates
        )
        fewer = packed_features(space.features()[:, 1:])
        spaces = (replace(space, candidates=candidates, columns=fewer), *rest)
        older = replace(recording, tasks=(replace(task, spaces=spaces), *others))
        with pytest.raises(BadRecording, match="made by different versions"):
            joined([recording, older])

    def test_devices_do_not_mix(self, recording: Recording) -> None:
        def moved(task: RecordedTask) -> RecordedTask:
            target: Any = replace(task.task.target, name="another")
            return replace(task, task=replace(task.task, target=target))

        other = replace(recording, tasks=tuple(map(moved, recording.tasks)))
        with pytest.raises(BadRecording, match="different devices"):
            joined([recording, other])


def _build(recording: Recording, task: RecordedTask) -> Build:
    """The build of the first candidate with an energy."""
    measured = {one.binary_id for one in task.binaries if one.usable_energies()}
    for one in task.spaces[0].candidates:
        build = ReplayBuilder(recording).submit(task.task, one.candidate).result()
        if isinstance(build, Build) and build.binary_id in measured:
            return build
    raise AssertionError("nothing was measured")

"""What lies in effcompile/recordings can be searched, and says what it was measured on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from effcompile import recordings
from effcompile.bench.workload_set import workload_set
from effcompile.config import TuneConfig
from effcompile.replaying import open_recording, tune_recorded
from search.config import SearchConfig
from search.database import Database

NAMES = sorted(path.stem for path in Path(recordings.__file__).parent.glob("*.effrec"))


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recording_is_whole(name: str) -> None:
    recording = open_recording(name)
    assert recording.command
    boards = {task.board or recording.device["gpu_uuid"] for task in recording.tasks}
    assert all(board.startswith("GPU-") for board in boards)
    for task in recording.tasks:
        known = {one.binary_id for one in task.binaries}
        assert task.default.binary_id in known
        for space in task.spaces:
            assert len(space.features()) == len(space.candidates)
            assert all(one.binary_id in known for one in space.candidates if not one.failure)


def test_every_workload_is_recorded_on_the_h200() -> None:
    tasks = open_recording("h200-workloads").tasks
    assert {one.task.workload.name for one in tasks} == set(workload_set())


@pytest.mark.parametrize(
    ("name", "n_workloads", "least_candidates", "n_with_peers"),
    [("h100-workloads", 12, 110, 11), ("h200-workloads", 26, 95, 22)],
)
def test_the_recorded_workloads_have_many_candidates_and_energies(
    name: str, n_workloads: int, least_candidates: int, n_with_peers: int
) -> None:
    tasks = {one.task.workload.name: one for one in open_recording(name).tasks}
    assert len(tasks) == n_workloads
    assert set(tasks) <= set(workload_set())
    for workload, task in tasks.items():
        usable = [one for one in task.binaries if one.latency and not one.failure]
        energies = [one for one in usable if one.usable_energies()]
        assert len(usable) >= least_candidates, workload
        assert len(energies) >= 60, workload
        assert all(peer.energy_mj or peer.error for peer in task.peers), workload
    # Time ran out before the libraries' kernels for four workloads on H200s.
    assert sum(bool(task.peers) for task in tasks.values()) >= n_with_peers


def test_ten_workloads_of_the_h200_have_120_energies_and_hundreds_of_candidates() -> None:
    tasks = open_recording("h200-workloads").tasks
    rich = [one for one in tasks if one.n_energies >= 120]
    assert len(rich) >= 12
    for task in tasks:
        assert sum(len(space.candidates) for space in task.spaces) >= (190 if task in rich else 95)
    assert sorted(one.n_energies for one in tasks)[-14:-12] == [111, 118]


@pytest.mark.timeout(60)
def test_tuning_on_a_recording_twice_is_the_same(tmp_path: Path) -> None:
    def outcome(folder: Path) -> object:
        config = TuneConfig(search=SearchConfig(n_trials=60, round_size=16))
        tune_recorded("h100-workloads", folder, config=config)
        with Database(folder / "trials.sqlite", read_only=True) as database:
            trials = [replace(one, spent_s=0.0, loop_s=None) for one in database.trials()]
            return trials, database.energies(), database.finals()

    assert outcome(tmp_path / "first") == outcome(tmp_path / "second")

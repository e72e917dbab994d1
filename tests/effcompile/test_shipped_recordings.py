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


def test_the_recorded_workloads_have_many_candidates_and_energies() -> None:
    tasks = {one.task.workload.name: one for one in open_recording("h100-workloads").tasks}
    assert len(tasks) >= 10
    assert set(tasks) <= set(workload_set())
    for name, task in tasks.items():
        usable = [one for one in task.binaries if one.latency and not one.failure]
        energies = [one for one in usable if one.usable_energies()]
        # Of layer norm's space hardly anything is fast enough for a window.
        assert len(usable) >= 90, name
        assert len(energies) >= (10 if name.startswith("layer-norm") else 60), name
        assert task.peers, name
        assert all(peer.energy_mj or peer.error for peer in task.peers), name


@pytest.mark.timeout(60)
def test_tuning_on_a_recording_twice_is_the_same(tmp_path: Path) -> None:
    def outcome(folder: Path) -> object:
        config = TuneConfig(search=SearchConfig(n_trials=60, round_size=16))
        tune_recorded("h100-workloads", folder, config=config)
        with Database(folder / "trials.sqlite", read_only=True) as database:
            trials = [replace(one, spent_s=0.0) for one in database.trials()]
            return trials, database.energies(), database.finals()

    assert outcome(tmp_path / "first") == outcome(tmp_path / "second")

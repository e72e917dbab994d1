"""What a recording holds of each workload."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from effcompile.bench.fronts import SLOWDOWNS, Front, fronts_of
from effcompile.bench.fronts_picture import picture
from effcompile.cli.main import app
from search.peer import Peer
from search.recording import Recording
from search.recording_file import write_recording
from tests.simulated_recording import simulated_recording


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    made = simulated_recording(tmp_path_factory.mktemp("run"), n_trials=60)
    first = made.tasks[0]
    peers = tuple(
        Peer(task_id=first.task.task_id, name=name, latency_us=9.0, energy_mj=energy_mj)
        for name, energy_mj in (("cuBLAS", 3.0), ("torch", 4.0))
    )
    return replace(made, tasks=(replace(first, peers=peers), *made.tasks[1:]))


@pytest.fixture(scope="module")
def fronts(recording: Recording) -> list[Front]:
    return fronts_of(recording)


def test_more_time_never_costs_energy(fronts: list[Front]) -> None:
    assert [one.workload for one in fronts] == ["matmul", "softmax"]
    for one in fronts:
        saved = one.saved()
        assert saved[0] >= 0.0
        assert saved == sorted(saved)
        for limit, point in zip(SLOWDOWNS, one.least, strict=True):
            assert point.latency_us <= one.fastest.latency_us * (1 + limit)
        assert one.fastest.latency_us == min(point.latency_us for point in one.points)
        assert one.n_energies == len(one.points) <= one.n_candidates


def test_the_library_of_least_energy_stands_beside(fronts: list[Front]) -> None:
    assert [one.peer for one in fronts] == ["cuBLAS", ""]
    assert fronts[0].cells()["library us, mJ"] == "cuBLAS 9, 3"
    assert fronts[1].cells()["library us, mJ"] == ""


def test_a_workload_without_energies_is_left_out(recording: Recording) -> None:
    first, second = recording.tasks
    bare = tuple(replace(one, windows=(), finals=()) for one in first.binaries)
    found = fronts_of(replace(recording, tasks=(replace(first, binaries=bare), second)))
    assert [one.workload for one in found] == ["softmax"]


def test_the_command_prints_and_draws(recording: Recording, tmp_path: Path) -> None:
    write_recording(recording, tmp_path / "sim.effrec")
    device = ["--device", f"replay:{tmp_path / 'sim.effrec'}"]
    drawn = ["--picture", str(tmp_path / "fronts.svg")]
    done = CliRunner().invoke(app, ["bench", "fronts", *device, *drawn, "--json"])
    assert done.exit_code == 0, done.output
    assert [one["workload"] for one in json.loads(done.stdout)] == ["matmul", "softmax"]
    text = (tmp_path / "fronts.svg").read_text()
    assert "<svg" in text
    picture(fronts_of(recording), tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == text

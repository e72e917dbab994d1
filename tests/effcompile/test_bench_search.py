"""The comparison of ways to search, on a recording of the simulated device."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from effcompile.bench import search_compare
from effcompile.bench.search_compare import bench_search
from effcompile.bench.search_outcomes import SearchOutcome
from effcompile.bench.search_rows import SearchRow, rows_of
from effcompile.bench.search_ways import N_FASTEST, REFERENCE, WAYS
from effcompile.cli.main import app
from effcompile.config import TuneConfig
from effcompile.errors import UsageError
from search.config import SearchConfig
from search.errors import BadRecording
from search.peer import Peer
from search.recording import Recording
from search.recording_file import write_recording
from tests.simulated_recording import simulated_recording

CONFIG = TuneConfig(
    search=SearchConfig(
        n_trials=24,
        round_size=8,
        population=16,
        n_generations=1,
        energy_band=0.5,
        max_slowdown=0.2,
    )
)
NAMES = ("B1", "B3", "B4", "B6", REFERENCE)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return simulated_recording(tmp_path_factory.mktemp("run"), n_trials=100)


@pytest.fixture(scope="module")
def outcomes(recording: Recording) -> list[SearchOutcome]:
    return bench_search(recording, config=CONFIG, seeds=(0,), names=NAMES)


@pytest.fixture(scope="module")
def rows(recording: Recording, outcomes: list[SearchOutcome]) -> dict[str, SearchRow]:
    return {row.way: row for row in rows_of(recording, outcomes)}


def test_every_workload_is_searched_in_every_way(
    outcomes: list[SearchOutcome],
) -> None:
    assert len(outcomes) == len({(one.way, one.workload, one.seed) for one in outcomes})
    assert {(one.way, one.workload) for one in outcomes} == {
        (name, workload) for name in NAMES for workload in ("matmul", "softmax")
    }


def test_ways_get_equal_trials_or_equal_time(rows: dict[str, SearchRow]) -> None:
    ours = rows[REFERENCE]
    assert ours.n_trials == rows["B1"].n_trials == rows["B4"].n_trials == 24.0
    for name in ("B3", "B6"):
        assert rows[name].wall_s == pytest.approx(ours.wall_s, rel=0.4)


def test_windows_are_counted_as_each_way_takes_them(rows: dict[str, SearchRow]) -> None:
    assert rows["B1"].n_energies == 0.0
    assert rows["B1"].joules == 0.0  # the recording tells no idle power
    assert 0.0 < (rows["B3"].n_energies or 0.0) <= N_FASTEST
    assert 0.0 < (rows[REFERENCE].n_energies or 0.0) <= (rows["B4"].n_energies or 0.0)
    assert rows["B4"].energy_share == 1.0


def test_seconds_are_those_of_the_recorded_windows(rows: dict[str, SearchRow]) -> None:
    # The simulated meter's windows last half a second each; no load before them is recorded.
    for row in rows.values():
        if row.energy_s is not None:
            assert row.energy_s == pytest.approx(0.5 * (row.n_energies or 0.0))


def test_nobody_beats_the_best_recorded_and_the_reference_equals_itself(
    outcomes: list[SearchOutcome], rows: dict[str, SearchRow]
) -> None:
    assert all(one.excess is not None and one.excess >= -1e-9 for one in outcomes)
    versus = rows[REFERENCE].versus_reference
    assert versus is not None
    assert (versus.value, versus.ci95) == (0.0, 0.0)


def test_a_search_pays_back_what_it_spent_against_the_default(
    recording: Recording, outcomes: list[SearchOutcome]
) -> None:
    defaults = {}
    for task in recording.tasks:
        binaries = {one.binary_id: one for one in task.binaries}
        defaults[task.task.workload.name] = binaries[task.default.binary_id].energy_mj()
    known = [one for one in outcomes if one.payback_runs is not None]
    assert known
    for one in known:
        saved_mj = (defaults[one.workload] or 0.0) - (one.energy_mj or 0.0)
        assert (one.payback_runs or 0.0) * saved_mj / 1000 == pytest.approx(one.spent.joules)


def test_who_ships_the_fastest_saves_nothing_against_it(rows: dict[str, SearchRow]) -> None:
    assert rows["B1"].saved is not None
    assert rows["B1"].saved.value == 0.0
    assert rows["B4"].saved is not None
    assert rows["B4"].saved.value > 0.0


def test_the_library_is_a_row_of_measured_numbers(
    recording: Recording, outcomes: list[SearchOutcome], rows: dict[str, SearchRow]
) -> None:
    assert rows["B2"].about == "vendor library: not measured"
    task = recording.tasks[0]
    ours = [one.energy_mj for one in outcomes if one.way == REFERENCE and one.workload == "matmul"]
    peer = Peer(task_id=task.task.task_id, name="cuBLAS", energy_mj=2.0 * (ours[0] or 0.0))
    with_peer = replace(recording, tasks=(replace(task, peers=(peer,)), *recording.tasks[1:]))
    row = {one.way: one for one in rows_of(with_peer, outcomes)}["B2"]
    assert row.n_outcomes == 1
    assert row.versus_reference is not None
    assert row.versus_reference.value == pytest.approx(100.0, abs=20.0)


def test_the_same_again_is_the_same(recording: Recording, outcomes: list[SearchOutcome]) -> None:
    again = bench_search(recording, config=CONFIG, seeds=(0,), names=["B4"])
    before = [one for one in outcomes if one.way == "B4"]
    assert [replace(one, model_s=0.0) for one in again] == [
        replace(one, model_s=0.0) for one in before
    ]


def test_the_command_prints_json_and_writes_table_and_picture(
    recording: Recording, tmp_path: Path
) -> None:
    write_recording(recording, tmp_path / "sim.effrec")
    arguments = ["bench", "search", "--device", f"replay:{tmp_path / 'sim.effrec'}", "--json"]
    limits = ["--trials", "24", "--seeds", "1", "--only", "V2", "--only", "snr"]
    files = ["--markdown", str(tmp_path / "t.md"), "--picture", str(tmp_path / "p.svg")]
    done = CliRunner().invoke(app, [*arguments, *limits, *files])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert [row["way"] for row in printed["rows"]] == ["V2", "B2", "snr"]
    assert "| snr: V2, share by centred SNR |" in (tmp_path / "t.md").read_text()
    assert "<svg" in (tmp_path / "p.svg").read_text()


def test_another_device_may_teach_the_warm_ways(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[tuple[str, ...]] = []

    def train(others: Recording, digest: str) -> None:
        taught.append((others.command, *(one.task.workload.name for one in others.tasks)))
        raise BadRecording("too few")

    monkeypatch.setattr(search_compare, "train_models", train)
    teacher = replace(recording, command="teacher")
    for known in (None, teacher):
        bench_search(recording, config=CONFIG, seeds=(0,), names=["warm"], teacher=known)
    own = recording.command
    assert taught == [
        (own, "softmax"),
        (own, "matmul"),
        ("teacher", "softmax"),
        ("teacher", "matmul"),
    ]


def test_unknown_ways_are_refused(recording: Recording) -> None:
    with pytest.raises(UsageError, match="unknown way to search 'best'"):
        bench_search(recording, config=CONFIG, seeds=(0,), names=["best"])


@pytest.mark.parametrize("name", WAYS)
def test_every_way_names_settings_that_exist(name: str) -> None:
    replace(SearchConfig(), **WAYS[name].settings)

"""The comparison of ways to search, on a recording of the simulated device."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from effcompile.bench.search_compare import CONTENDERS, REFERENCE, SearchRow, bench_search
from effcompile.cli.main import app
from effcompile.config import TuneConfig
from effcompile.errors import UsageError
from search.config import SearchConfig
from search.recording import Recording, write_recording
from tests.simulated_recording import simulated_recording

CONFIG = TuneConfig(
    search=SearchConfig(n_trials=40, round_size=10, population=24, n_generations=1, energy_band=0.5)
)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return simulated_recording(tmp_path_factory.mktemp("run"), n_trials=240)


@pytest.fixture(scope="module")
def rows(recording: Recording) -> dict[str, SearchRow]:
    names = (REFERENCE, "latency, then top 32", "overlap")
    found = bench_search(recording, config=CONFIG, seeds=(0, 1), names=names)
    return {row.name: row for row in found}


def test_every_way_gets_the_same_trials_and_two_seeds(rows: dict[str, SearchRow]) -> None:
    assert {row.n_trials for row in rows.values()} == {40.0}
    assert {len(row.outcomes) for row in rows.values()} == {2}


def test_a_share_is_measured_by_its_name(rows: dict[str, SearchRow]) -> None:
    counts = {name: row.n_energies for name, row in rows.items()}
    # The defaults of two tasks alone.
    assert counts["latency, then top 32"] == 2.0
    assert counts["overlap"] is not None and counts[REFERENCE] is not None
    assert counts["overlap"] < counts[REFERENCE]


def test_seconds_are_those_of_the_recorded_windows(rows: dict[str, SearchRow]) -> None:
    # The simulated meter's windows last half a second each; no load before them is recorded.
    for row in rows.values():
        assert row.n_energies is not None
        assert row.energy_s == pytest.approx(0.5 * row.n_energies)


def test_nobody_beats_the_best_recorded_and_the_reference_equals_itself(
    rows: dict[str, SearchRow],
) -> None:
    assert all(one.excess_energy >= -1e-9 for r in rows.values() for one in r.outcomes)
    assert rows[REFERENCE].versus_k1_percent == 0.0
    assert rows[REFERENCE].versus_k1_ci95 == 0.0


def test_the_same_again_is_the_same(recording: Recording, rows: dict[str, SearchRow]) -> None:
    (again,) = bench_search(recording, config=CONFIG, seeds=(1,), names=["overlap"])
    assert again.outcomes == rows["overlap"].outcomes[1:]


def test_one_seed_has_no_interval(recording: Recording) -> None:
    (row,) = bench_search(recording, config=CONFIG, seeds=(0,), names=[REFERENCE])
    assert row.excess_ci95 is None
    assert row.excess_percent is not None


def test_the_command_prints_rows_as_json(recording: Recording, tmp_path: Path) -> None:
    write_recording(recording, tmp_path / "sim.effrec")
    arguments = ["bench", "search", "--device", f"replay:{tmp_path / 'sim.effrec'}", "--json"]
    limits = ["--trials", "24", "--seeds", "1", "--only", "random", "--only", "snr"]
    done = CliRunner().invoke(app, [*arguments, *limits])
    assert done.exit_code == 0, done.output
    assert [row["name"] for row in json.loads(done.stdout)] == ["random", "snr"]


def test_unknown_ways_are_refused(recording: Recording) -> None:
    with pytest.raises(UsageError, match="unknown way to search 'best'"):
        bench_search(recording, config=CONFIG, seeds=(0,), names=["best"])


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_way_names_settings_that_exist(name: str) -> None:
    assert replace(SearchConfig(), **CONTENDERS[name]) != SearchConfig() or name == "top"

"""Seconds until a search has a good point, on a recording of the simulated device."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from effcompile.bench.search_spent import BUILD_PROCESSES
from effcompile.bench.search_time import SearchTime, bench_search_time
from effcompile.bench.search_time_table import rows_of
from effcompile.cli.main import app
from effcompile.config import TuneConfig
from search.config import SearchConfig
from search.recording import Recording
from search.recording_file import write_recording
from tests.simulated_recording import simulated_recording

CONFIG = TuneConfig(search=SearchConfig(n_trials=24, round_size=8, population=16, energy_band=0.5))
BUILD_S, RUN_S = 1.6, 0.5


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    made = simulated_recording(tmp_path_factory.mktemp("run"), n_trials=60)
    return replace(made, tasks=tuple(map(_timed, made.tasks)))


def _timed(task):  # type: ignore[no-untyped-def]
    """Every build and run takes as long as every other."""
    spaces = tuple(
        replace(one, candidates=tuple(replace(c, build_s=BUILD_S) for c in one.candidates))
        for one in task.spaces
    )
    return replace(
        task,
        default=replace(task.default, build_s=BUILD_S),
        spaces=spaces,
        binaries=tuple(replace(one, run_s=RUN_S) for one in task.binaries),
    )


def searched(recording: Recording, within: float = 0.03) -> dict[tuple[str, str], SearchTime]:
    found = bench_search_time(recording, config=CONFIG, seeds=(0,), within=within)
    assert {one.way for one in found} == {"recorded", "cold", "warm"}
    return {(one.workload, one.way): one for one in found}


def test_seconds_add_up_to_builds_side_by_side_runs_and_windows(recording: Recording) -> None:
    for one in searched(recording, within=1e9).values():
        assert one.fast is not None
        assert one.fast.n_trials == 1
        # The default alone: nothing is built beside it.
        wait_s = BUILD_S / BUILD_PROCESSES if one.way == "recorded" else BUILD_S
        assert one.fast.seconds == pytest.approx(wait_s + RUN_S)
        assert (one.frugal is None) == (one.way == "recorded")
    cold = searched(recording)["matmul", "cold"]
    # Four rounds of at most eight builds on sixteen processes; up to 24 runs and windows.
    assert 4 * BUILD_S + 12 * RUN_S < cold.whole_s < 4 * BUILD_S + 24 * (RUN_S + 0.5)


def test_the_best_itself_takes_longer_than_what_is_close_to_it(recording: Recording) -> None:
    exact, close = searched(recording, within=0.0), searched(recording, within=0.2)
    for key, one in close.items():
        assert one.fast is not None
        best = exact[key].fast
        assert best is None or best.seconds >= one.fast.seconds
    assert any(one.fast != close[key].fast for key, one in exact.items())


def test_rows_tell_median_worst_and_who_never_came_there(recording: Recording) -> None:
    found = list(searched(recording).values())
    lost = [replace(one, fast=None) if one.way == "cold" else one for one in found]
    rows = {(row["way"], row["workload"]): row for row in rows_of([*found, *lost])}
    cold = str(rows["cold", "matmul"]["fast s: median, worst"])
    assert cold.endswith("(1 never)")
    assert rows["recorded", "all"]["frugal s: median, worst"] == "never"
    assert rows["warm", "all"]["searches"] == 4


def test_the_command_prints_every_search(recording: Recording, tmp_path: Path) -> None:
    write_recording(recording, tmp_path / "sim.effrec")
    arguments = ["bench", "search-time", "--device", f"replay:{tmp_path / 'sim.effrec'}"]
    done = CliRunner().invoke(app, [*arguments, "--trials", "10", "--seeds", "1", "--json"])
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)) == 6

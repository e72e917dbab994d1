"""``--device replay:...`` and ``record``, from the command line to the database."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from effcompile.cli.main import app
from effcompile.config import TuneConfig
from effcompile.errors import UsageError
from effcompile.recordings import recording_paths
from effcompile.replaying import tune_recorded
from search.config import SearchConfig
from search.database import Database
from search.errors import IdentityMismatch
from search.recording_file import write_recording
from search.winners import winners
from tests.simulated_recording import simulated_recording

CONFIG = TuneConfig(search=SearchConfig(n_trials=60, round_size=10, population=24))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    path = folder / "sim.effrec"
    write_recording(simulated_recording(folder / "run", n_trials=200), path)
    return path


def contents(folder: Path) -> list[object]:
    """Everything a database holds, wall times aside."""
    with Database(folder, read_only=True) as database:
        trials = [replace(trial, spent_s=0.0, loop_s=None) for trial in database.trials()]
        return [database.tasks(), trials, database.energies(), database.finals(), database.rounds()]


def test_two_runs_give_identical_databases(recording: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert tune_recorded(str(recording), tmp_path / name, config=CONFIG).stopped_by == "budget"
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    with Database(tmp_path / "one", read_only=True) as database:
        found = winners(database, CONFIG.search)
    assert [winner.criterion for winner in found.values()] == ["energy", "energy"]


def test_another_seed_searches_otherwise(recording: Path, tmp_path: Path) -> None:
    other = replace(CONFIG, search=replace(CONFIG.search, seed=1))
    tune_recorded(str(recording), tmp_path / "one", config=CONFIG)
    tune_recorded(str(recording), tmp_path / "two", config=other)
    assert contents(tmp_path / "one")[1] != contents(tmp_path / "two")[1]


def test_the_policy_is_part_of_the_identity(recording: Path, tmp_path: Path) -> None:
    tune_recorded(str(recording), tmp_path, config=CONFIG)
    other = replace(CONFIG, search=replace(CONFIG.search, energy_policy="snr"))
    with pytest.raises(IdentityMismatch, match=r"search\.energy_policy: recorded 'worth'"):
        tune_recorded(str(recording), tmp_path, config=other)


def test_the_command_tunes_a_shipped_recording_and_reports_it(tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["--device", "replay:h200-block", "--trials", "60", "--energy-policy", "snr"]
    done = CliRunner().invoke(app, ["tune", *arguments, "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    shown = CliRunner().invoke(app, ["report", str(out), "--json"])
    report = json.loads(shown.stdout)
    assert report["device"] == "NVIDIA H200"
    assert report["fingerprint"]["replayed"] == "true"
    assert [one["model"] for one in report["model_quality"]] == ["power", "constant"]


def test_replaying_loads_no_compiler(recording: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from effcompile.replaying import tune_recorded\n"
        "tune_recorded(sys.argv[1], Path(sys.argv[2]))\n"
        "loaded = {one.split('.')[0] for one in sys.modules}\n"
        "assert not loaded & {'tvm', 'torch', 'onnx', 'pynvml', 'cuda'}, loaded\n"
    )
    command = [sys.executable, "-c", script, str(recording), str(tmp_path / "run")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.onnx", "--device", "replay:h200-block"], "cannot use models with --device"),
        (["--device", "replay:h200-block", "--meter", "none"], "cannot use --meter"),
        (["--device", "gpu"], "unknown --device 'gpu'"),
        (["--device", "replay:nowhere"], "no recording 'nowhere'"),
        (["--device", "replay:/no/where"], "no recording '/no/where'"),
        ([], "no model is given"),
    ],
)
def test_contradictions_are_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["tune", *arguments, "--out", str(tmp_path / "run")])
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)


def test_a_name_stands_for_one_file_or_for_all_that_start_with_it() -> None:
    (exact,) = recording_paths("h200-block")
    assert exact in recording_paths("h200")

"""What users get wrong with recordings, and with runs that answered from one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from effcompile.config import TuneConfig
from effcompile.replaying import tune_recorded
from search.config import SearchConfig
from search.recording import RecordedTask, Recording
from search.recording_file import write_recording
from tests.effcompile.cli.commands import refusal
from tests.simulated_recording import simulated_recording

Shown = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return simulated_recording(tmp_path_factory.mktemp("made") / "run", n_trials=60)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recording: Recording) -> Path:
    write_recording(recording, tmp_path / "sim.effrec")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--keep-dynamic"], "cannot use --keep-dynamic with --device"),
        (["--measure", "none", "--cache", "cold"], "cannot use --measure, --cache with --device"),
        (["--target", "cpu"], "cannot use --target with --device"),
    ],
)
def test_what_a_recording_decides_is_not_asked_for(
    here: Path, capsys: Shown, options: list[str], said: str
) -> None:
    command = ["tune", "--device", "replay:sim.effrec", "--out", "run", *options]
    assert said in refusal(capsys, *command)
    assert not (here / "run").exists()


def test_a_device_to_compile_for_is_told_where_it_belongs(here: Path, capsys: Shown) -> None:
    message = refusal(capsys, "tune", "m.onnx", "--device", "cpu", "--out", "run")
    assert "unknown --device 'cpu'" in message
    assert "--target" in message


def test_a_run_on_a_recording_is_neither_built_nor_recorded(here: Path, capsys: Shown) -> None:
    config = TuneConfig(search=SearchConfig(n_trials=4, round_size=2))
    tune_recorded("sim.effrec", here / "run", config=config)
    message = refusal(capsys, "build", "run", "--out", "a.effc")
    assert "it was tuned on a recording, which holds no model" in message
    message = refusal(capsys, "record", "run", "--out", "b.effrec")
    assert "its numbers are those of a recording" in message
    assert not list(here.glob("*.effc"))
    assert not (here / "b.effrec").exists()


def without_timed_candidates(task: RecordedTask) -> RecordedTask:
    """The task with no latency but its default's."""
    default = task.default.binary_id
    binaries = [
        one if one.binary_id == default else replace(one, latency=None) for one in task.binaries
    ]
    return replace(task, binaries=tuple(binaries))


def test_models_are_not_trained_on_nothing(here: Path, capsys: Shown, recording: Recording) -> None:
    tasks = tuple(map(without_timed_candidates, recording.tasks))
    write_recording(replace(recording, tasks=tasks), here / "bare.effrec")
    message = refusal(
        capsys, "train-models", "--device", "replay:bare.effrec", "--out", "m.effmodels"
    )
    assert "cannot train models from 2 recorded workloads" in message
    assert not (here / "m.effmodels").exists()

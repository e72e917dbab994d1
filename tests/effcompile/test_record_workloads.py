"""Recordings of the standard workloads: models, budget, copies that survive."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from effcompile.bench import record_workloads as module
from effcompile.bench.record_workloads import (
    Deadline,
    Enough,
    copy_database,
    record_workloads,
    recording_config,
)
from effcompile.bench.single_ops import softmax_model
from effcompile.bench.workload_set import standard_name, workload_set
from effcompile.config import TuneConfig, preset
from effcompile.errors import UsageError
from effcompile.extract import extract
from effcompile.frontend.checking import prepare_model
from effcompile.lower import lower
from effcompile.replaying import open_recording, record_runs, tune_recorded
from schedules.target import known_target
from schedules.workload import TensorSpec, Workload
from search.config import SearchConfig
from search.database import Database
from search.events import EnergyMeasured, RunStarted, TaskProgress, Totals
from search.peer import PEER_NOTE, Peer
from search.recorder import record
from search.recording_file import read_recording, write_recording
from search.recording_joining import joined
from search.stopping import StopRequest
from search.trial import EnergyMeasurement, Verdict
from tests.simulated_recording import features_of, simulated_recording, simulated_run


def test_every_model_is_sound_and_has_the_shape_of_its_name() -> None:
    models = {name: make() for name, make in workload_set().items()}
    for model in models.values():
        onnx.checker.check_model(model, full_check=True)
    inputs = {
        name: [[d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input]
        for name, model in models.items()
    }
    assert inputs["mm-2048x11008x4096"] == [[2048, 4096], [4096, 11008]]
    assert inputs["mv-8x16384x16384"] == [[8, 16384], [16384, 16384]]
    assert inputs["conv-stem-b16"] == [[16, 3, 224, 224], [64, 3, 7, 7]]
    (output,) = models["conv-stem-b1"].graph.output
    assert [d.dim_value for d in output.type.tensor_type.shape.dim] == [1, 64, 112, 112]


def test_workloads_are_known_by_their_shapes() -> None:
    def spec(shape: tuple[int, ...]) -> TensorSpec:
        return TensorSpec(name="x", shape=shape, dtype="float16")

    def workload(n_rows: int) -> Workload:
        return Workload(
            op="generic",
            name="fused_matmul_cast",
            inputs=(spec((n_rows, 4096)), spec((4096, 4096))),
            outputs=(spec((n_rows, 4096)),),
            program="",
            program_hash="0",
        )

    assert standard_name(workload(16)) == "mm-16x4096x4096"
    assert standard_name(workload(17)) == "fused_matmul_cast"
    last = replace(
        workload(1),
        inputs=(spec((16, 28, 28, 128)), spec((128, 3, 3, 128))),
        outputs=(spec((16, 28, 28, 128)),),
    )
    assert standard_name(last) == "conv-3x3-28-b16"


@pytest.mark.parametrize("name", ["conv-stem-b1", "conv-stem-b16"])
def test_the_stem_is_known_where_its_channels_are_windows(name: str) -> None:
    target = known_target("h100")
    lowered = lower({"main": prepare_model(workload_set()[name]())}, target)
    found = [one.task.workload for one in extract(lowered, target).tasks]
    assert name in [standard_name(one) for one in found if "conv2d" in one.name]


def test_a_deadline_comes_by_itself_and_a_request_earlier() -> None:
    assert Deadline(0.0).is_set
    late = Deadline(100.0)
    assert not late.is_set
    late.request()
    assert late.is_set


def test_a_run_ends_once_every_workload_has_enough_energies() -> None:
    totals = Totals(n_trials=0, n_planned=9, failures={}, elapsed_s=0.0, left_s=None)
    first, second = (
        TaskProgress(task_id=name, position=i, name=name, weight=1) for i, name in enumerate("ab")
    )
    stop = StopRequest()
    watch = Enough(2, stop, known={"a": 1})

    def measure(task: TaskProgress, verdict: Verdict = Verdict.OK) -> bool:
        taken = EnergyMeasurement(energy_mj=1.0, meter="simulated", verdict=verdict)
        watch(EnergyMeasured(trial_id=1, measurement=taken, task=task, totals=totals))
        return stop.is_set

    watch(RunStarted(tasks=(first, second), totals=totals, resumed=True, measures_energy=True))
    assert not measure(first)
    assert not measure(second)
    assert not measure(second, Verdict.UNSETTLED)
    assert measure(second)
    assert measure(second)  # asked once: a second request would break off at once


def test_rows_of_libraries_are_part_of_a_recording(tmp_path: Path) -> None:
    run = simulated_run(tmp_path, n_trials=20)
    with Database(run) as database:
        task_id = database.tasks()[0].task_id
        for energy_mj in (7.0, 5.0):
            database.add_note(PEER_NOTE, Peer(task_id=task_id, name="cuBLAS", energy_mj=energy_mj))
        made = record(database, features_of=features_of, command="")
    write_recording(made, tmp_path / "one.effrec")
    first, second = read_recording(tmp_path / "one.effrec").tasks
    assert [(peer.name, peer.energy_mj) for peer in first.peers] == [("cuBLAS", 5.0)]
    assert second.peers == ()
    assert joined([made, made]).tasks[0].peers == first.peers


def test_an_unknown_workload_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown workload 'mm-3'"):
        record_workloads(
            tmp_path, seconds=60, names=["mm-3"], config=TuneConfig(), work=tmp_path / "work"
        )


def test_a_database_in_use_is_copied_whole_into_one_file(tmp_path: Path) -> None:
    run, copy = simulated_run(tmp_path / "run", n_trials=20), tmp_path / "copy.sqlite"
    with Database(run) as database:
        copy_database(database.path, copy)
        trials = database.trials()
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.sqlite"]
    with Database(copy, read_only=True) as found:
        assert found.trials() == trials
    with sqlite3.connect(copy) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_several_recordings_are_one_device(tmp_path: Path) -> None:
    for name in ("first", "second"):
        made = simulated_recording(tmp_path / name, n_trials=60, seed=len(name))
        write_recording(made, tmp_path / f"{name}.effrec")
    both = joined([read_recording(tmp_path / f"{name}.effrec") for name in ("first", "second")])
    files = [tmp_path / "first.effrec", tmp_path / "second.effrec"]
    assert record_runs(files, tmp_path / "both.effrec", command="made so") == replace(
        both, command="made so"
    )
    assert read_recording(tmp_path / "both.effrec").tasks == both.tasks
    one = open_recording(str(tmp_path / "first.effrec"))
    n_both = sum(len(space.candidates) for task in both.tasks for space in task.spaces)
    n_one = sum(len(space.candidates) for task in one.tasks for space in task.spaces)
    assert len(both.tasks) == len(one.tasks) == 2
    assert n_both > n_one


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_workload_is_tuned_copied_and_continued_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module, "workload_set", lambda: {"tiny": lambda: softmax_model(16, 64, "float32")}
    )
    quick = recording_config(preset("quick"), n_trials=6)

    def go(work: str, n_trials: int) -> module.RecordedRow:
        config = recording_config(quick, n_trials=n_trials)
        config = replace(config, search=replace(config.search, round_size=3))
        (row,) = record_workloads(
            tmp_path / "out.sqlite", seconds=90, config=config, target="cpu", work=tmp_path / work
        )
        return row

    assert go("here", 6).n_trials == 6
    # Another machine has the copy alone.
    assert go("there", 9).n_trials == 9
    told: list[str] = []
    record_runs([tmp_path / "out.sqlite"], tmp_path / "tiny.effrec", watch=told.append)
    assert any("candidates of" in line for line in told)
    replayed = tune_recorded(
        str(tmp_path / "tiny.effrec"),
        tmp_path / "replayed",
        config=TuneConfig(search=SearchConfig(n_trials=5, round_size=4)),
    )
    assert replayed.stopped_by in ("budget", "exhausted")

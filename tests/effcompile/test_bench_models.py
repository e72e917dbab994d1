"""Models judged on recordings: what is known when, and what a perfect model could reach."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from effcompile.bench.model_compare import TUNING, UNSEEN, WorkloadQuality, bench_models
from effcompile.bench.unmeasured import bench_unmeasured
from effcompile.cli.main import app
from schedules.candidate import Candidate
from schedules.task import Task
from schedules.workload import TensorSpec, Workload, content_id
from search.recording import (
    RecordedBinary,
    RecordedCandidate,
    RecordedSpace,
    RecordedTask,
    Recording,
    packed_features,
)
from search.recording_file import write_recording
from search.trial import EnergyMeasurement, LatencyMeasurement, Verdict
from tests.device_rows import TARGET, device_rows


def made_recording(n_workloads: int = 5, n_each: int = 30, noise: float = 0.002) -> Recording:
    """Workloads of a device whose power follows the work; early features tell half of it."""
    rows, rng = device_rows(n_workloads, n_each, seed=3), np.random.default_rng(0)
    tasks = []
    for group in range(n_workloads):
        own = rows.of(rows.groups == group)
        tensor = TensorSpec(name="x", shape=(4, group + 1), dtype="float32")
        workload = Workload(
            op="generic",
            name=f"work-{group}",
            inputs=(tensor,),
            outputs=(tensor,),
            program="{}",
            program_hash=content_id([group]),
        )
        binaries = tuple(
            RecordedBinary(
                binary_id=f"b{group}-{i}",
                stats=own.stats[i],
                latency=LatencyMeasurement(
                    latency_us=float(own.latency_us[i]),
                    ci95_us=0.01,
                    n_repeats=5,
                    n_launches=10,
                    cache="hot",
                    method="graph",
                ),
                windows=(
                    EnergyMeasurement(
                        energy_mj=float(own.energies_mj[i] * (1 + noise * rng.normal())),
                        ci95_mj=float(1.96 * noise * own.energies_mj[i]),
                        window_ms=300.0,
                        meter="simulated",
                        verdict=Verdict.OK,
                    ),
                ),
            )
            for i in range(n_each)
        )
        candidates = tuple(
            RecordedCandidate(
                candidate=Candidate(space="knobs", decisions=f"[{i}]"), binary_id=one.binary_id
            )
            for i, one in enumerate(binaries)
        )
        early = own.late[:, 20:30] + rng.normal(0.0, 0.1, size=(n_each, 10))
        default = RecordedCandidate(
            candidate=Candidate(space="default", decisions="{}"), binary_id=binaries[0].binary_id
        )
        space = RecordedSpace(
            name="knobs", candidates=candidates, columns=packed_features(early.astype(np.float32))
        )
        tasks.append(
            RecordedTask(
                task=Task(workload=workload, target=TARGET),
                default=default,
                spaces=(space,),
                binaries=binaries,
            )
        )
    return Recording(command="made", created_utc="", tasks=tuple(tasks))


@pytest.fixture(scope="module")
def found() -> list[WorkloadQuality]:
    return bench_models(made_recording(4, 24), band=1.0, n_draws=2)


def of(
    found: list[WorkloadQuality], model: str, situation: str, workload: str = "all"
) -> WorkloadQuality:
    (one,) = (
        one
        for one in found
        if (one.quality.model, one.situation, one.workload) == (model, situation, workload)
    )
    return one


def test_every_model_answers_for_every_workload(found: list[WorkloadQuality]) -> None:
    for situation, models in (("unseen", UNSEEN), ("16", TUNING)):
        counts = {of(found, model, situation).n_band for model in models}
        assert len(counts) == 1, "all models must answer for the same rows"
    assert {one.workload for one in found} == {"all", *(f"work-{i}" for i in range(4))}


def test_power_from_compiled_code_orders_a_workload_nobody_measured(
    found: list[WorkloadQuality],
) -> None:
    ours = of(found, "power", "unseen").quality.spearman or 0.0
    assert ours > 0.9
    assert ours > (of(found, "constant", "unseen").quality.spearman or 0.0)


def test_costs_of_work_learnt_from_few_rows_beat_every_other_model(
    found: list[WorkloadQuality],
) -> None:
    ours = [of(found, name, "16").quality for name in ("power", "power, warm")]
    others = [of(found, name, "16").quality for name in ("constant", "linear", "published")]
    assert max(one.mape or 1.0 for one in ours) < min(one.mape or 0.0 for one in others)
    assert min(one.spearman or 0.0 for one in ours) > max(one.spearman or 1.0 for one in others)


def test_another_device_teaches_all_but_the_workload_asked_about() -> None:
    judged, teacher = made_recording(3, 16), made_recording(6, 16)
    quality = of(bench_models(judged, band=1.0, teacher=teacher, n_draws=1), "power", "unseen")
    assert (quality.quality.spearman or 0.0) > 0.9
    # The same three are known there; without the one asked about, two teach nothing.
    alone = of(bench_models(judged, band=1.0, teacher=judged, n_draws=1), "power", "unseen")
    assert alone.quality == of(bench_models(judged, band=1.0, n_draws=1), "power", "unseen").quality
    assert len(bench_unmeasured(judged, teacher=teacher)) == 3
    assert bench_unmeasured(judged, teacher=judged) == []


def test_noise_caps_what_any_model_can_reach() -> None:
    exact, noisy = (
        of(bench_models(made_recording(3, 16, noise=noise), band=1.0, n_draws=1), *row).reachable
        for noise in (0.002, 0.2)
        for row in [("constant", "unseen", "work-0")]
    )
    assert noisy.correlation < 0.9 < exact.correlation
    assert exact.regret < 0.01
    assert noisy.regret > 0.1


def test_only_the_band_is_judged() -> None:
    wide, narrow = (
        of(bench_models(made_recording(3, 12), band=band, n_draws=1), "constant", "unseen").n_band
        for band in (5.0, 0.5)
    )
    assert 0 < narrow < wide


def test_the_command_prints_rows(tmp_path: Path) -> None:
    recording = made_recording(3, 12)
    first = recording.tasks[0]
    # Two workloads of one name are told apart.
    named = replace(
        first, task=replace(first.task, workload=replace(first.task.workload, name="work-1"))
    )
    write_recording(
        replace(recording, tasks=(named, *recording.tasks[1:])), tmp_path / "made.effrec"
    )
    device = f"replay:{tmp_path / 'made.effrec'}"
    done = CliRunner().invoke(app, ["bench", "models", "--device", device, "--band", "99%"])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(
        app, ["bench", "models", "--device", device, "--band", "99%", "--json"]
    )
    names = {row["workload"] for row in json.loads(done.stdout)["energy"]}
    assert names == {"all", "work-1 1", "work-1 2", "work-2"}


def test_latency_of_workloads_left_out_orders_their_candidates() -> None:
    rows = bench_unmeasured(made_recording(6, 20))
    assert [row.workload for row in rows] == [f"work-{i}" for i in range(6)]
    assert all(row.n_candidates == 20 for row in rows)
    assert np.mean([row.spearman or 0.0 for row in rows]) > 0.7
    for row in rows:
        assert (row.best_of_5_percent or 0.0) <= (row.pick_percent or 0.0) + 1e-9
    assert bench_unmeasured(made_recording(3, 8)) == []


def test_models_are_trained_from_the_command_line(tmp_path: Path) -> None:
    write_recording(made_recording(4, 16), tmp_path / "made.effrec")
    arguments = ["train-models", "--device", f"replay:{tmp_path / 'made.effrec'}"]
    done = CliRunner().invoke(
        app, [*arguments, "--out", str(tmp_path / "made.effmodels"), "--json"]
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["training"]["workloads"] == [f"work-{i}" for i in range(4)]
    assert told["training"]["n_metered"] == 64
    assert (tmp_path / "made.effmodels").is_file()

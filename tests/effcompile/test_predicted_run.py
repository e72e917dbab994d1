"""Runs that measured nothing: marked wherever their numbers are shown."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from cost_models.device_models import read_models, write_models
from effcompile import models
from effcompile.building import _predicted_by
from effcompile.cli.main import app
from effcompile.config import MeasureConfig, TuneConfig
from effcompile.errors import UsageError
from effcompile.models import models_of, require_models
from effcompile.outcome import read_outcome
from effcompile.prior_models import predicting
from effcompile.replaying import record_runs
from effcompile.report.collect import collect
from effcompile.report.html import render_html
from effcompile.report.terminal import render
from schedules.target import known_target
from search.config import SearchConfig
from search.database import Database
from search.identity import PREDICTED_BY, Identity
from search.predicting import PredictingRunner
from search.tuner import tune
from tests.device_rows import device_models
from tests.doubles import SimulatedSpace, make_task
from tests.search.test_predicting import KernelBuilder

LABEL = "models of NVIDIA H200 0123 (8 workloads, 192 energies)"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    space = SimulatedSpace("knobs")
    config = SearchConfig(n_trials=20, round_size=10, energy_policy="measure_all")
    identity = Identity(
        model_hash="0",
        target=known_target("h200"),
        settings={"search.seed": 0},
        versions={PREDICTED_BY: LABEL},
    )
    with Database(folder) as database:
        config_json = msgspec.json.encode(TuneConfig(search=config)).decode()
        database.claim(identity, config_json=config_json)
        tune(
            [make_task()],
            spaces=lambda task, name: space,
            space_names=lambda task: ["knobs"],
            builder=KernelBuilder(),
            runner=PredictingRunner(device_models(), cache="hot"),
            database=database,
            config=config,
        )
    return folder


def test_the_report_says_so_in_every_form(run: Path) -> None:
    report = collect(run)
    assert report.predicted_by == LABEL
    stream = StringIO()
    Console(width=200, file=stream).print(render(report))
    text = stream.getvalue()
    assert "PREDICTED, not measured" in text
    assert "Tasks (predicted)" in text
    page = render_html(report)
    assert LABEL in page
    assert "Tasks (predicted)" in page


def test_a_measured_run_says_nothing_of_the_kind(run: Path) -> None:
    report = replace(collect(run), predicted_by="", fingerprint={})
    assert "predicted" not in render_html(report).lower()


def test_the_manifest_names_the_models(run: Path) -> None:
    assert _predicted_by([read_outcome(run)]) == [LABEL]


def test_it_cannot_become_a_recording(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="predicted, not measured"):
        record_runs([run], tmp_path / "x.effrec")


def test_every_prediction_is_taken_and_cold_caches_are_refused() -> None:
    config = TuneConfig(measure=MeasureConfig(source="none"))
    assert predicting(config).search.energy_policy == "measure_all"
    with pytest.raises(UsageError, match="cold cache"):
        predicting(TuneConfig(measure=MeasureConfig(source="none", cache="cold")))


def test_models_are_found_by_device_and_else_by_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "__file__", str(tmp_path / "__init__.py"))
    h200, h100, a100 = (known_target(name) for name in ("h200", "h100", "a100"))
    with pytest.raises(UsageError, match="models are shipped for none"):
        require_models(h200)
    write_models(device_models(), tmp_path / "h200.effmodels")
    assert models_of(a100) is None
    for target in (h200, h100):
        assert require_models(target).training.device == h200.name
    made = device_models()
    other = replace(made, training=replace(made.training, device=h100.name))
    write_models(other, tmp_path / "h100.effmodels")
    for target in (h200, h100):
        assert require_models(target).training.device == target.name
    with pytest.raises(UsageError, match=r"NVIDIA A100.*h200"):
        require_models(a100)


@pytest.mark.parametrize("name", list(models.shipped_models()))
def test_shipped_models_read_and_are_small(name: str) -> None:
    path = models.shipped_models()[name]
    found = read_models(path)
    assert found.training.device == known_target(name).name
    assert found.training.n_metered > 100
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--measure", "none", "--meter", "nvml"], "cannot use --meter with --measure none"),
        (["--measure", "none", "--energy-policy", "top"], "cannot use --energy-policy"),
        (["--measure", "guess"], "source"),
    ],
)
def test_contradictions_are_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    command = ["tune", "model.onnx", "--target", "h200", *arguments, "--out", str(tmp_path / "r")]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)

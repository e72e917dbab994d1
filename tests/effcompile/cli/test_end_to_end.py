"""Model to measured artifact through the real command line and through Python, on this CPU.

Each command runs once in a process of its own; where a test is about its answer, in this one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import effcompile
from tests.effcompile.cli.commands import (
    MODEL_SOURCE,
    Ended,
    run_command,
    run_here,
    succeed,
    write_model,
    write_perceptron,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

done = partial(succeed, run=run_here)
TUNE = ["--target", "cpu", "--effort", "quick", "--seed", "1", "--json"]


def printed(*arguments: str, cwd: Path, run: Callable[..., Ended] = run_here) -> Any:
    """The one JSON document of a command that ended well."""
    return json.loads(succeed(*arguments, "--json", cwd=cwd, run=run))


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``m.py``, ``m.onnx``, its inputs, the run ``run`` and ``m.effc``."""
    folder = tmp_path_factory.mktemp("block")
    (folder / "m.py").write_text(MODEL_SOURCE)
    export = ["export", "m.py:build", "--out", "m.onnx", "--save-inputs", "in"]
    exported = printed(*export, cwd=folder, run=run_command)
    assert exported == {"path": "m.onnx", "inputs": {"input": [4, 16]}, "n_nodes": 3}
    tuned = json.loads(
        succeed("tune", "m.onnx", "--out", "run", "--trials", "6", *TUNE, cwd=folder)
    )
    assert tuned == {"path": "run", "stopped_by": "budget", "predicted_by": ""}
    manifest = printed("build", "run", "--out", "m.effc", cwd=folder, run=run_command)
    assert [entry["name"] for entry in manifest["entries"]] == ["main"]
    assert len(manifest["measured"]) == 1
    return folder


def test_run_equals_torch(block: Path) -> None:
    options = ["--input", "input=in/input.npy", "--output", "y.npy"]
    written = printed("run", "m.effc", *options, cwd=block, run=run_command)
    assert [one["path"] for one in written.values()] == ["y.npy"]
    namespace: dict[str, Any] = {}
    exec(MODEL_SOURCE, namespace)
    module, (x,) = namespace["build"]()
    expected = module(x).detach().numpy()
    np.testing.assert_allclose(np.load(block / "y.npy"), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("against", "run"), [("m.py:build", run_command), ("m.onnx", run_here)])
def test_verify_finds_it_equal(block: Path, against: str, run: Callable[..., Ended]) -> None:
    compared = printed("verify", "m.effc", "--against", against, cwd=block, run=run)
    assert [one["is_equal"] for one in compared] == [True]


def test_verify_finds_other_weights_different(block: Path) -> None:
    model = onnx.load(str(block / "m.onnx"))
    stored = model.graph.initializer[0]
    stored.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored) * 2, stored.name))
    onnx.save(model, str(block / "other.onnx"))
    ended = run_here("verify", "m.effc", "--against", "other.onnx", cwd=block)
    assert ended.status == 1
    assert "differs: relative error" in ended.out


def test_measure_gives_a_latency_with_interval(block: Path) -> None:
    options = ["--versus", "m.effc", "--rounds", "3"]
    measured = printed("measure", "m.effc", *options, cwd=block, run=run_command)
    assert [one["entry"] for one in measured] == ["main", "main"]
    assert all(one["measurement"]["latency"]["latency_us"] > 0 for one in measured)


def test_report_and_show_agree_on_the_trials(block: Path) -> None:
    report = printed("report", "run", cwd=block, run=run_command)
    assert report["n_trials"] == 6
    assert (block / "run" / "report.html").read_text().startswith("<!")
    shown = printed("show", "run", cwd=block, run=run_command)
    assert sum(one["trials"] for one in shown) == 6
    assert len(printed("show", "run", "--task", "", cwd=block)) == 6


def test_doctor_prints_its_checks_as_json(block: Path) -> None:
    ended = run_command("doctor", "--json", cwd=block)
    assert {one["name"] for one in json.loads(ended.out)} >= {"python", "tvm pins"}


def test_same_command_again_adds_no_trial_and_brings_models_back(block: Path) -> None:
    before = printed("show", "run", "--task", "", cwd=block)
    shutil.copytree(block / "run", block / "bare")
    shutil.rmtree(block / "bare" / "models")
    done("tune", "m.onnx", "--out", "bare", "--trials", "6", *TUNE, cwd=block)
    assert printed("show", "bare", "--task", "", cwd=block) == before
    assert (block / "bare" / "models" / "main.onnx").is_file()


def test_folder_of_another_model_is_refused_with_the_difference(block: Path) -> None:
    write_perceptron(block / "other.onnx")
    ended = run_here("tune", "other.onnx", "--out", "run", *TUNE, cwd=block)
    assert ended.status == 2
    assert "it tunes another model" in ended.err
    assert "model_hash: recorded" in ended.err


def test_exchanged_model_is_not_built(block: Path) -> None:
    shutil.copytree(block / "run", block / "exchanged")
    write_perceptron(block / "exchanged" / "models" / "main.onnx", batch=3)
    ended = run_here("build", "exchanged", "--out", "x.effc", cwd=block)
    assert ended.status == 2
    assert "not those that were tuned" in ended.err
    assert not (block / "x.effc").exists()


def test_runs_join_in_one_artifact_that_shares_weights(tmp_path: Path) -> None:
    write_perceptron(tmp_path / "fixed.onnx")
    write_perceptron(tmp_path / "open.onnx", batch="N")
    done("tune", "fixed.onnx", "--out", "fixed", "--trials", "4", *TUNE, cwd=tmp_path)
    # Nothing to tune is no error: the model runs, with default schedules.
    ended = run_command("tune", "open.onnx", "--keep-dynamic", "--out", "free", *TUNE, cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert "nothing to tune" in ended.err
    manifest = printed("build", "fixed", "free", "--out", "two.effc", cwd=tmp_path)
    fixed, free = manifest["entries"]
    assert free["inputs"][0]["shape"] == ["N", 16]
    assert fixed["parameters"] == free["parameters"] != []
    module = effcompile.load(tmp_path / "two.effc")
    x = np.random.default_rng(0).standard_normal((7, 16), dtype=np.float32)
    expected = module.free(x=x)
    np.testing.assert_allclose(module.free(x=x[:2]), expected[:2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(module.fixed(x=x[:4]), expected[:4], rtol=1e-4, atol=1e-5)
    done(
        *["verify", "two.effc", "--against", "open.onnx", "--entry", "free", "--dim", "N=5"],
        cwd=tmp_path,
    )
    measured = printed("measure", "two.effc", "--entry", "free", "--dim", "N=3", cwd=tmp_path)
    assert measured[0]["measurement"] is not None


def test_short_floats_tuned_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((8, 32)), rng.standard_normal((32, 32))
    kinds = {
        "half": (TensorProto.FLOAT16, np.dtype(np.float16)),
        "brain": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
    }
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Relu", ["p"], ["y"])]
    for name, (code, dtype) in kinds.items():
        stored = {"w": weight.astype(dtype)}
        write_model(tmp_path / f"{name}.onnx", nodes, stored, x=(8, 32), y=(8, 32), code=code)
    models = [f"{name}={name}.onnx" for name in kinds]
    done("tune", *models, "--out", "run", "--trials", "6", *TUNE, cwd=tmp_path)
    done("build", "run", "--out", "both.effc", "--no-measure", cwd=tmp_path)
    for name, (_, dtype) in kinds.items():
        np.save(tmp_path / "x.npy", x.astype(dtype))
        options = ["--entry", name, "--input", "x=x.npy", "--output", "y.npy"]
        done("run", "both.effc", *options, cwd=tmp_path)
        found = np.load(tmp_path / "y.npy").view(dtype).astype(np.float64)
        exact = np.maximum(x.astype(dtype).astype(float) @ weight.astype(dtype).astype(float), 0)
        # Sums of 32 products, each rounded to the short format where the kernel does so.
        share = float(ml_dtypes.finfo(dtype).eps) * 32
        assert np.abs(found - exact).max() <= share * np.abs(exact).max()
        done("verify", "both.effc", "--entry", name, "--against", f"{name}.onnx", cwd=tmp_path)


def test_python_tunes_builds_and_calls_with_numpy_and_torch(tmp_path: Path) -> None:
    import torch

    namespace: dict[str, Any] = {}
    exec(MODEL_SOURCE, namespace)
    model, (x,) = namespace["build"]()
    run = effcompile.tune(
        model, example_inputs=(x,), target="cpu", trials=3, out=tmp_path / "run", max_slowdown=0.02
    )
    module = effcompile.build(run, tmp_path / "m.effc", measure=False)
    expected = model(x).detach()
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)
    again = effcompile.load(tmp_path / "m.effc")
    found = again(x.numpy())
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)

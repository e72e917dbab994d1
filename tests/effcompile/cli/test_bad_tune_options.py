"""Options and settings that cannot be used: one message, no run folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.effcompile.cli.commands import refusal, write_perceptron

Shown = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "banana"], "unknown target 'banana': expected auto, cpu, cuda"),
        (["--effort", "wild"], "expected quick, normal or thorough"),
        (["--strategy", "foo"], "expected evolutionary or random"),
        (["--meter", "foo"], "expected auto or nvml or rapl or none"),
        (["--cache", "warm"], "expected hot or cold"),
        (["--max-slowdown", "200%"], "cannot read --max-slowdown '200%'"),
        (["--max-slowdown", "nan"], "cannot read --max-slowdown 'nan'"),
        (["--shape", "x"], "expected NAME=EXTENT"),
        (["--shape", "x=a,b"], "expected NAME=EXTENT"),
        (["--shape", "z=4,16"], "no input named 'z': the model's inputs are x (4, 16)"),
        (["--shape", "x=5,16"], "the model declares (4, 16)"),
        (["--shape", "x=4,16", "--shape", "x=4,16"], "names 'x' twice"),
        (["--trials", "-3"], "greater than or equal to 1"),
        (["--trials", "two"], "valid integer"),
        (["--seed", "-1"], "greater than or equal to 0"),
        (["--seed", "99999999999999999999999"], "`$.search.seed`"),
        (["--config", "absent.toml"], "No such file"),
        (["--nosuch"], "No such option"),
    ],
)
def test_unusable_option_is_explained(
    here: Path, capsys: Shown, options: list[str], said: str
) -> None:
    write_perceptron(here / "m.onnx")
    message = refusal(capsys, "tune", "m.onnx", "--out", "run", *options)
    assert said in " ".join(message.replace("│", " ").split())
    assert not (here / "run").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[search]\nn_trial = 3\n", "sets 'n_trial', which does not exist"),
        (b"[serch]\nseed = 3\n", "expected one of build, measure, search"),
        (b"search = 3\n", "must be a section"),
        (b'[search]\nn_trials = "many"\n', "Expected `int`, got `str`"),
        (b"[search]\nn_trials = -5\n", "Expected `int` >= 1"),
        (b"[search]\nmax_slowdown = 7.0\n", "< 1"),
        (b"[build]\ntimeout_s = -1.0\n", "> 0"),
        (b"[build]\nn_workers = -2\n", ">= 0"),
        (b"[measure]\nn_repeats = 0\n", ">= 2"),
        (b"\xff\xfe", "Expected a TOML file"),
        (b"search = [", "Expected a TOML file"),
    ],
)
def test_unusable_setting_is_explained(here: Path, capsys: Shown, text: bytes, said: str) -> None:
    (here / "c.toml").write_bytes(text)
    message = refusal(
        capsys, "tune", "m.onnx", "--out", "run", "--config", "c.toml", "--print-config"
    )
    assert "c.toml" in message
    assert said in message


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (["a.onnx", "b.onnx"], "several models need distinct names"),
        (["a=a.onnx", "a=b.onnx"], "several models need distinct names"),
        (["1a=a.onnx"], "several models need distinct names"),
    ],
)
def test_models_without_names_are_refused(
    here: Path, capsys: Shown, models: list[str], said: str
) -> None:
    assert said in refusal(capsys, "tune", *models, "--out", "run")

"""What users get wrong with artifacts: one message, the defined exit status, no traceback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.effcompile.cli.commands import (
    refusal,
    run_command,
    run_here,
    write_model,
    write_perceptron,
)
from tests.effcompile.tiny_artifact import write_tiny

Shown = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "tiny.effc"
    write_tiny(path)
    return path


def refused_run(cwd: Path, artifact: Path, *options: str, entry: str = "half") -> str:
    ended = run_command("run", artifact, "--entry", entry, *options, cwd=cwd)
    assert ended.status == 2, ended.err
    assert ended.out == ""
    assert ended.err.startswith("error: ") or "Error" in ended.err
    return ended.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("a=x64.npy", "has inputs unknown a; missing x"),
        ("x=x64.npy", "input x is float64, expected float32"),
        ("x=wide.npy", "has shape [4, 65], expected x: float32[4, 64]"),
        ("x=absent.npy", "expected a .npy file, found nothing"),
        ("x=.", "expected a .npy file, found a folder"),
        ("x=text.npy", "Expected one array of numbers"),
        ("x=object.npy", "Expected one array of numbers"),
        ("x=several.npz", "Expected one array of numbers"),
        ("x64.npy", "NAME=FILE with the name x, for example --input x=FILE.npy"),
    ],
)
def test_input_that_does_not_fit_is_explained(
    here: Path, artifact: Path, given: str, said: str
) -> None:
    np.save("x64.npy", np.zeros((4, 64)))
    np.save("wide.npy", np.zeros((4, 65), np.float32))
    np.save("object.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez("several.npz", a=np.zeros((4, 64), np.float32))
    (here / "text.npy").write_text("hello")
    message = refused_run(
        here, artifact, "--input", given, "--output", "y=y.npy", "--output", "y_half=h.npy",
        entry="main",
    )  # fmt: skip
    assert said in message
    assert not (here / "y.npy").exists()


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("absent/y.npy", "the folder absent does not exist"),
        (".", "it is a folder"),
        ("z=y.npy", "no output named z: the outputs are y"),
    ],
)
def test_output_that_cannot_be_written_is_explained(
    here: Path, artifact: Path, output: str, said: str
) -> None:
    np.save("x.npy", np.zeros(8, np.uint16).view("V2"))
    assert said in refused_run(here, artifact, "--input", "x=x.npy", "--output", output)


def test_several_outputs_want_a_name_each(here: Path, artifact: Path) -> None:
    np.save("x.npy", np.zeros((4, 64), np.float32))
    options = ["--input", "x=x.npy", "--output", "y.npy"]
    message = refused_run(here, artifact, *options, entry="main")
    assert "with the name y or y_half, for example --output y=FILE.npy" in message


@pytest.mark.parametrize(
    ("keep", "flip", "said"),
    [(0.5, False, "cut short"), (1.0, True, "damaged"), (0.0, False, "the file is empty")],
)
def test_damaged_artifact_is_refused(
    here: Path, artifact: Path, keep: float, flip: bool, said: str
) -> None:
    whole = bytearray(artifact.read_bytes())
    if flip:
        whole[len(whole) // 3] ^= 0xFF
    (here / "bad.effc").write_bytes(whole[: int(len(whole) * keep)])
    np.save("x.npy", np.zeros(8, np.uint16).view("V2"))
    options = ["--input", "x=x.npy", "--output", "y.npy"]
    assert said in refused_run(here, here / "bad.effc", *options)


@pytest.mark.parametrize("name", ["measure", "verify"])
def test_missing_artifact_is_named(here: Path, capsys: Shown, name: str) -> None:
    against = ["--against", "m.onnx"] if name == "verify" else []
    assert "no such file" in refusal(capsys, name, "absent.effc", *against)


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--dim", "n"], 2, "expected NAME=EXTENT"),
        (["--dim", "n=0"], 2, "expected NAME=EXTENT"),
        (["--dim", "zz=3"], 2, "no open dimension zz"),
        ([], 2, "dimensions n are open"),
        (["--dim", "n=3", "--meter", "foo"], 2, "unknown --meter 'foo'"),
        (["--dim", "n=3", "--meter", "nvml"], 1, "cannot measure energy with meter nvml"),
    ],
)
def test_unusable_measure_option_is_explained(
    artifact: Path, capsys: Shown, options: list[str], status: int, said: str
) -> None:
    message = refusal(capsys, "measure", artifact, "--entry", "rows", *options, status=status)
    assert said in message


def test_reference_with_other_inputs_is_refused(here: Path, artifact: Path) -> None:
    onnx.save(onnx.load(str(write_perceptron(here / "m.onnx"))), str(here / "other.onnx"))
    ended = run_here("verify", artifact, "--against", "other.onnx", "--entry", "join", cwd=here)
    assert ended.status == 2
    assert "other.onnx has the inputs x, the artifact a, b, keep" in ended.err


def test_reference_that_the_evaluator_cannot_run_names_the_other_way(
    here: Path, artifact: Path
) -> None:
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    weights = {"w": np.zeros((8, 8), np.float32)}  # the artifact takes rows of 64
    write_model(here / "other.onnx", [product], weights, x=("N", "K"), y=("N", 8))
    command = ["verify", artifact, "--against", "other.onnx", "--entry", "rows"]
    assert "for example --dim n=128" in run_here(*command, cwd=here).err
    ended = run_here(*command, "--dim", "n=3", cwd=here)
    assert ended.status == 2
    assert "--against FILE.py:FUNCTION" in ended.err

"""What users get wrong: one message, the defined exit status, no traceback."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from effcompile.errors import DeviceUnavailable
from effcompile.measure import cuda_facts, environment
from schedules.target import known_target
from tests.effcompile.cli.commands import refusal, write_perceptron
from tests.effcompile.made_run import make_run

Shown = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def one_node(path: Path, operator: str, *, domain: str = "") -> None:
    """A model of one operator on ``x (2, 4)``."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 4))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 4))
    node = helper.make_node(operator, ["x"], ["y"], name="odd", domain=domain)
    opsets = [helper.make_opsetid("", 20)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    graph = helper.make_graph([node], "one", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), str(path))


# Models -----------------------------------------------------------------------------------


def test_missing_model_is_named(here: Path, capsys: Shown) -> None:
    assert "no such model file: no.onnx" in refusal(capsys, "tune", "no.onnx", "--out", "run")
    assert not (here / "run").exists()


@pytest.mark.parametrize("content", [b"hello world\x00\xff" * 30, b""])
def test_file_that_is_not_onnx_is_refused(here: Path, capsys: Shown, content: bytes) -> None:
    (here / "m.onnx").write_bytes(content)
    message = refusal(capsys, "tune", "m.onnx", "--out", "run")
    assert "m.onnx is not an ONNX file" in message
    assert f"{len(content)} bytes" in message


def test_model_cut_short_is_refused(here: Path, capsys: Shown) -> None:
    whole = write_perceptron(here / "m.onnx").read_bytes()
    (here / "m.onnx").write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refusal(capsys, "tune", "m.onnx", "--out", "run")


@pytest.mark.parametrize("domain", ["", "acme"])
def test_unknown_operator_lists_its_node(here: Path, capsys: Shown, domain: str) -> None:
    one_node(here / "m.onnx", "Frobnicate", domain=domain)
    message = refusal(capsys, "tune", "m.onnx", "--out", "run")
    assert "odd (" in message
    assert "Frobnicate" in message
    assert not (here / "run").exists()


def test_open_dimension_names_itself_and_the_option(here: Path, capsys: Shown) -> None:
    write_perceptron(here / "m.onnx", batch="N")
    message = refusal(capsys, "tune", "m.onnx", "--out", "run")
    assert "dimension 0 (N)" in message
    assert "--shape x=N,16" in message


def test_missing_external_data_is_named(here: Path, capsys: Shown) -> None:
    model = onnx.load(str(write_perceptron(here / "m.onnx")))
    onnx.save(
        model, str(here / "m.onnx"), save_as_external_data=True, location="w.data", size_threshold=0
    )
    (here / "w.data").unlink()
    assert "w.data" in refusal(capsys, "tune", "m.onnx", "--out", "run")


# Options ----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("target", ["cuda", "h200"])
def test_cuda_without_gpu_says_what_to_do(here: Path, capsys: Shown, target: str) -> None:
    write_perceptron(here / "m.onnx")
    message = refusal(capsys, "tune", "m.onnx", "--out", "run", "--target", target, status=1)
    assert "--target cpu" in message
    assert not (here / "run").exists()


def test_a_gpu_of_another_kind_is_not_tuned_for(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = dict.fromkeys(cuda_facts._ATTRIBUTES, 8) | {"capability_minor": 0}
    here = cuda_facts.GpuFacts(name="A100", uuid="GPU-1", driver_version="13.0", attributes=numbers)
    monkeypatch.setattr(environment, "gpu_facts", lambda: here)
    environment.require_device(known_target("a100"))
    with pytest.raises(DeviceUnavailable, match=r"sm_90\): the GPU here is A100 \(sm_80\)"):
        environment.require_device(known_target("h200"))


def test_meter_that_does_not_fit_is_refused_before_anything_is_written(
    here: Path, capsys: Shown
) -> None:
    write_perceptron(here / "m.onnx")
    options = ["--target", "cpu", "--meter", "nvml"]
    message = refusal(capsys, "tune", "m.onnx", "--out", "run", *options, status=1)
    assert "cannot measure energy with meter nvml" in message
    assert "--meter auto" in message
    assert not (here / "run").exists()


def test_run_folder_that_is_a_file_is_refused(here: Path, capsys: Shown) -> None:
    write_perceptron(here / "m.onnx")
    (here / "run").write_text("taken")
    assert "cannot create run folder run" in refusal(capsys, "tune", "m.onnx", "--out", "run")
    assert (here / "run").read_text() == "taken"


# Export -----------------------------------------------------------------------------------

SOURCES = """
import sys
import torch
def raises(): raise RuntimeError("no weights here")
def number(): return 3
def no_module(): return 3, (torch.zeros(1),)
def wrong_inputs(): return torch.nn.Linear(3, 4), (torch.zeros(1, 7),)
def takes(argument): return argument
def leaves(): sys.exit(0)
"""


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("raises", "raised RuntimeError: no weights here"),
        ("number", "returned int, expected (module, example_inputs)"),
        ("no_module", "expected a torch.nn.Module"),
        ("wrong_inputs", "a and b must have same reduction dim"),
        ("takes", "missing 1 required positional argument"),
        ("leaves", "raised SystemExit"),
        ("absent", "has no function absent()"),
        ("1x", "expected file.py:function"),
    ],
)
def test_builder_that_builds_nothing_is_explained(
    here: Path, capsys: Shown, function: str, said: str
) -> None:
    (here / "source.py").write_text(SOURCES)
    message = refusal(capsys, "export", f"source.py:{function}", "--out", "m.onnx")
    assert said in message
    assert not (here / "m.onnx").exists()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("absent.py:build", "no such file: absent.py"),
        ("syntax.py:build", "raised SyntaxError"),
        ("text.txt:build", "not a Python file"),
        ("leaves.py:build", "raised SystemExit"),
    ],
)
def test_source_that_cannot_be_imported_is_explained(
    here: Path, capsys: Shown, source: str, said: str
) -> None:
    (here / "syntax.py").write_text("def build(:")
    (here / "text.txt").write_text("hello")
    (here / "leaves.py").write_text("import sys; sys.exit(5)")
    assert said in refusal(capsys, "export", source, "--out", "m.onnx")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "absent/m.onnx"], "the folder absent does not exist"),
        (["--out", "."], "it is a folder"),
        (["--out", "m.onnx", "--save-inputs", "taken"], "cannot make the folder taken"),
    ],
)
def test_output_that_cannot_be_written_is_found_before_the_source_runs(
    here: Path, capsys: Shown, options: list[str], said: str
) -> None:
    (here / "source.py").write_text("raise RuntimeError('was run')")
    (here / "taken").write_text("")
    assert said in refusal(capsys, "export", "source.py:build", *options)


# Run folders ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["build", "report", "show"])
@pytest.mark.parametrize("kind", ["absent", "empty", "file"])
def test_what_is_no_run_folder_is_refused(here: Path, capsys: Shown, name: str, kind: str) -> None:
    if kind == "empty":
        (here / "run").mkdir()
    elif kind == "file":
        (here / "run").write_text("x")
    out = ["--out", "a.effc"] if name == "build" else []
    assert "run is not a run folder" in refusal(capsys, name, "run", *out)


@pytest.mark.parametrize("name", ["build", "report", "show"])
@pytest.mark.parametrize(
    ("content", "said"), [(b"junk" * 100, "is damaged"), (b"", "no run was started here")]
)
def test_damaged_database_is_refused(
    here: Path, capsys: Shown, name: str, content: bytes, said: str
) -> None:
    make_run(here / "run")
    for path in (here / "run").glob("trials.sqlite*"):
        path.unlink()
    (here / "run" / "trials.sqlite").write_bytes(content)
    out = ["--out", "a.effc"] if name == "build" else []
    assert said in refusal(capsys, name, "run", *out)


def test_build_without_models_says_how_to_get_them_back(here: Path, capsys: Shown) -> None:
    make_run(here / "run")
    message = refusal(capsys, "build", "run", "--out", "a.effc")
    assert "run holds no model" in message
    assert "effcompile tune" in message


@pytest.mark.parametrize(("out", "said"), [("absent/a.effc", "does not exist"), (".", "a folder")])
def test_artifact_that_cannot_be_written_is_found_first(
    here: Path, capsys: Shown, out: str, said: str
) -> None:
    assert said in refusal(capsys, "build", "no-run-is-looked-for", "--out", out)


@pytest.mark.parametrize(("out", "said"), [("absent/p.html", "does not exist"), (".", "a folder")])
def test_page_that_cannot_be_written_is_refused(
    here: Path, capsys: Shown, out: str, said: str
) -> None:
    make_run(here / "run")
    assert said in refusal(capsys, "report", "run", "--html", out)


def test_unknown_task_lists_the_known(here: Path, capsys: Shown) -> None:
    make_run(here / "run")
    assert "the run's tasks are" in refusal(capsys, "show", "run", "--task", "zz")

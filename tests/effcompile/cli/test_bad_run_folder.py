"""Run folders that cannot be used, and what cannot be written: one message."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.effcompile.cli.commands import refusal, write_perceptron
from tests.effcompile.made_run import make_run

Shown = pytest.CaptureFixture[str]


def test_run_folder_that_is_a_file_is_refused(here: Path, capsys: Shown) -> None:
    write_perceptron(here / "m.onnx")
    (here / "run").write_text("taken")
    assert "cannot create run folder run" in refusal(capsys, "tune", "m.onnx", "--out", "run")
    assert (here / "run").read_text() == "taken"


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

"""Arguments that cannot be read: one message, status 2, no traceback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.effcompile.cli.commands import refusal, run_command
from tests.effcompile.tiny_artifact import write_tiny

Shown = pytest.CaptureFixture[str]


@pytest.mark.parametrize("text", ["", "a=", "=m.onnx"])
def test_a_model_without_a_file_or_a_name_is_refused(
    tmp_path: Path, capsys: Shown, text: str
) -> None:
    message = refusal(capsys, "tune", text, "--out", tmp_path / "run")
    assert f"cannot read the model argument {text!r}: expected FILE.onnx" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "text", ["[measure]\nenergy_window_ms = inf\n", "[search]\nmax_seconds = inf\n"]
)
def test_settings_without_end_are_refused(tmp_path: Path, capsys: Shown, text: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    options = ["--config", tmp_path / "c.toml", "--print-config"]
    message = refusal(capsys, "tune", "m.onnx", "--out", tmp_path / "run", *options)
    assert "= inf of" in message
    assert "expected a finite number" in message


def test_the_option_that_chooses_an_entry_point_is_named(tmp_path: Path, capsys: Shown) -> None:
    write_tiny(tmp_path / "a.effc")
    assert "Name one with --entry" in refusal(capsys, "measure", tmp_path / "a.effc")


def test_an_array_of_text_is_no_input(tmp_path: Path) -> None:
    write_tiny(tmp_path / "a.effc")
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    options = ["--entry", "half", "--input", "x=text.npy", "--output", "y.npy"]
    ended = run_command("run", "a.effc", *options, cwd=tmp_path)  # hides torch from its process
    assert ended.status == 2
    assert "input x cannot be used: unknown dtype 'str32'" in ended.err
    assert not (tmp_path / "y.npy").exists()

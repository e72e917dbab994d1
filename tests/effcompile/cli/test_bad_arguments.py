"""Arguments that cannot be read: one message, status 2, no traceback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.effcompile.cli.commands import refusal
from tests.effcompile.tiny_artifact import write_tiny

Shown = pytest.CaptureFixture[str]


@pytest.mark.parametrize("text", ["", "a=", "=m.onnx"])
def test_a_model_without_a_file_or_a_name_is_refused(
    tmp_path: Path, capsys: Shown, text: str
) -> None:
    message = refusal(capsys, "tune", text, "--out", tmp_path / "run")
    assert f"cannot read the model argument {text!r}: expected FILE.onnx" in message
    assert not (tmp_path / "run").exists()


def test_the_option_that_chooses_an_entry_point_is_named(tmp_path: Path, capsys: Shown) -> None:
    write_tiny(tmp_path / "a.effc")
    assert "Name one with --entry" in refusal(capsys, "measure", tmp_path / "a.effc")


def test_an_array_of_text_is_no_input(tmp_path: Path, capsys: Shown) -> None:
    write_tiny(tmp_path / "a.effc")
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    options = ["--input", f"x={tmp_path / 'text.npy'}", "--output", tmp_path / "y.npy"]
    message = refusal(capsys, "run", tmp_path / "a.effc", "--entry", "half", *options)
    assert "input x cannot be used: unknown dtype 'str32'" in message

"""Modules that cannot be exported: one message, no file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.effcompile.cli.commands import refusal

Shown = pytest.CaptureFixture[str]


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

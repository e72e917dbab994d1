"""Models in a run folder that were lost, damaged or exchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.effcompile.cli.commands import call_main, refusal, write_perceptron

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
def test_a_kept_model_that_is_damaged_is_written_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_perceptron(tmp_path / "m.onnx")
    tune = ["tune", "m.onnx", "--target", "cpu", "--trials", "2", "--out", "run"]
    assert call_main(*tune, "--effort", "quick") == 0
    kept = tmp_path / "run" / "models" / "main.onnx"
    whole = kept.read_bytes()
    capsys.readouterr()

    kept.write_bytes(b"junk\n")
    message = refusal(capsys, "build", "run", "--out", "a.effc")
    assert "main.onnx is not an ONNX file" in message
    assert "the command that tuned there, given again" in message
    kept.unlink()
    message = refusal(capsys, "build", "run", "--out", "a.effc")
    assert "run holds no model" in message
    assert "effcompile tune MODEL" in message

    assert call_main(*tune, "--effort", "quick") == 0
    assert kept.read_bytes() == whole
    assert call_main("build", "run", "--out", "a.effc", "--no-measure") == 0

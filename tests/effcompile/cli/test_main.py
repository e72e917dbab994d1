"""The top of the command line: defects, help, interrupts outside of tuning."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import effcompile
from effcompile.cli import tune_commands
from effcompile.cli.main import app
from effcompile.cli.output import print_rows
from effcompile.doctor.check import Check
from tests.effcompile.cli.commands import call_main, run_command

COMMANDS = [
    *("export", "tune", "build", "run", "verify", "measure", "report", "show", "doctor"),
    *("record", "train-models"),
]
BENCHMARKS = [
    *("tuner", "kernels", "counters", "search", "workloads", "peers", "meter", "winners", "models"),
]


def test_defect_becomes_one_line_and_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object) -> None:
        raise KeyError("no such\nthing")

    monkeypatch.setattr(tune_commands, "_settings", broken)
    assert call_main("tune", "m.onnx", "--out", "run") == 1
    message = capsys.readouterr().err
    assert message.startswith("error: unexpected KeyError: 'no such\\nthing'. ")
    assert message.count("\n") == 1
    log = Path(message.split()[-1])
    text = log.read_text()
    log.unlink()
    assert "Traceback" in text
    assert "in broken" in text
    assert "tune m.onnx --out run" in text


@pytest.mark.parametrize("name", [*COMMANDS, *(f"bench {name}" for name in BENCHMARKS), ""])
def test_help_ends_well_and_shows_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call_main(*name.split(), "--help") == 0
    shown = capsys.readouterr().out
    assert name == "" or f"Example: effcompile {name}" in " ".join(shown.replace("│", " ").split())


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call_main("--version") == 0
    assert capsys.readouterr().out == f"effcompile {effcompile.__version__}\n"


def test_every_option_is_explained() -> None:
    from typer.main import get_command

    found = get_command(app).commands
    for name, command in {**found, **found["bench"].commands}.items():
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name}"


def test_command_line_lists_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    call_main("--help")
    shown = capsys.readouterr().out
    assert [name for name in COMMANDS if not re.search(rf"│ {name}\b", shown)] == []


def test_reader_that_leaves_early_is_no_defect(tmp_path: Path) -> None:
    prefix = ["bash", "-c", '"$@" | true; exit ${PIPESTATUS[0]}', "bash"]
    ended = run_command(
        "tune", "m.onnx", "--out", "r", "--print-config", cwd=tmp_path, prefix=prefix
    )
    assert "unexpected" not in ended.err


def test_brackets_in_a_table_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([Check(name="x", status="warn", found="[bold]", advice="pip install 'a[cuda]'")])
    shown = capsys.readouterr().out
    assert "[bold]" in shown and "'a[cuda]'" in shown

"""A disk that takes no more: a message, nothing half written, no finished trial lost."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from effcompile.errors import OutputUnwritable, UsageError
from effcompile.output_files import check_output, replacing
from search.database import Database
from search.trial import TrialState
from tests.effcompile.cli.commands import MODEL_SOURCE, run_command, write_perceptron
from tests.effcompile.made_run import make_run
from tests.effcompile.tiny_artifact import write_tiny


@contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """No file of this process grows beyond; Python turns the signal into an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def limited(n_blocks: int) -> list[str]:
    """A shell prefix: no file grows beyond so many KiB."""
    return ["bash", "-c", f'ulimit -f {n_blocks}; exec "$@"', "bash"]


def test_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "y.bin"
    path.write_bytes(b"old")
    with (
        file_size_limit(1000),
        pytest.raises(OutputUnwritable, match="cannot write"),
        replacing(path) as file,
    ):
        file.write(bytes(5000))
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["y.bin"]


def test_replaced_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "y.bin"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_device_file_folder_and_missing_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it is a folder"):
        check_output(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        check_output(tmp_path / "absent" / "file")
    with pytest.raises(UsageError, match="it is a device"):
        check_output(Path("/dev/null"))
    check_output(tmp_path / "file")


@pytest.mark.parametrize("name", ["run", "report"])
def test_command_that_finds_the_disk_full_leaves_nothing(tmp_path: Path, name: str) -> None:
    write_tiny(tmp_path / "tiny.effc")
    np.save(tmp_path / "big.npy", np.zeros((2000, 64), np.float32))
    make_run(tmp_path / "tuned")
    command = {
        "run": ["run", "tiny.effc", "--entry", "rows", "--input", "x=big.npy", "--output", "out"],
        "report": ["report", "tuned", "--html", "out"],
    }[name]
    # Room for the library of the artifact, which is unpacked on the way.
    ended = run_command(*command, cwd=tmp_path, prefix=limited(200 if name == "run" else 40))
    assert ended.status == 1
    assert "cannot write out: File too large" in ended.err
    assert not [one for one in tmp_path.iterdir() if "out" in one.name]


def test_temporary_folder_without_space_is_named(tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.effc")
    np.save(tmp_path / "x.npy", np.zeros(8, np.uint16).view("V2"))
    command = ["run", "tiny.effc", "--entry", "half", "--input", "x=x.npy", "--output", "out"]
    ended = run_command(*command, cwd=tmp_path, prefix=limited(4))
    assert ended.status == 1
    assert "module.so: File too large" in ended.err


@pytest.mark.slow
def test_export_to_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "source.py").write_text(MODEL_SOURCE)
    command = ["export", "source.py:build", "--out", "m.onnx"]
    ended = run_command(*command, cwd=tmp_path, prefix=limited(1))
    assert ended.status == 1
    assert "cannot write m.onnx: File too large" in ended.err
    assert [one for one in tmp_path.iterdir() if "onnx" in one.name] == []


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_tuning_that_finds_the_disk_full_goes_on_once_there_is_space(tmp_path: Path) -> None:
    write_perceptron(tmp_path / "m.onnx")
    command = ["tune", "m.onnx", "--out", "run", "--target", "cpu", "--trials", "6"]
    full = run_command(*command, cwd=tmp_path, prefix=limited(150))
    assert full.status == 1
    assert "every finished trial is kept" in full.err
    with Database(tmp_path / "run" / "trials.sqlite", read_only=True) as database:
        before = [one for one in database.trials() if one.state is not TrialState.PROPOSED]
    again = run_command(*command, cwd=tmp_path)
    assert again.status == 0, again.err
    with Database(tmp_path / "run" / "trials.sqlite", read_only=True) as database:
        after = database.trials()
    assert len(after) == 6
    assert after[: len(before)] == before

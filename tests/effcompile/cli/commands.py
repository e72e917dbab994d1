"""The real command line: in a process of its own, or in this one where that is safe."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


def command(*arguments: str | Path) -> list[str]:
    """What a shell would start."""
    return [sys.executable, "-m", "effcompile", *map(str, arguments)]


def run_command(
    *arguments: str | Path, cwd: Path, prefix: Sequence[str] = (), timeout_s: float = 100.0
) -> Ended:
    """Run a command to its end. No command may ever show a traceback."""
    ended = subprocess.run(
        [*prefix, *command(*arguments)],
        check=False,
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def run_here(*arguments: str | Path, cwd: Path) -> Ended:
    """Run a command to its end in this process, which need not import everything again."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setenv("COLUMNS", ENVIRONMENT["COLUMNS"])
        status = call_main(*arguments)
    assert "Traceback" not in err.getvalue(), err.getvalue()
    return Ended(status, out.getvalue(), err.getvalue())


def succeed(*arguments: str | Path, cwd: Path, run: Callable[..., Ended] = run_command) -> str:
    """Run a command that must end well; returns what it printed."""
    ended = run(*arguments, cwd=cwd)
    assert ended.status == 0, ended.err
    return ended.out


def call_main(*arguments: str | Path) -> int:
    """Run a command in this process; returns its exit status."""
    from effcompile.cli.main import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["effcompile", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 2) -> str:
    """The message of a command that must refuse: one, on stderr, without a traceback."""
    assert call_main(*arguments) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    assert shown.err.count("error: ") == 1 or "Error" in shown.err
    return shown.err


MODEL_SOURCE = """
import torch

def build():
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(16, 24), torch.nn.GELU(), torch.nn.Linear(24, 8)
    )
    return module, (torch.randn(4, 16),)
"""


def write_perceptron(path: Path, *, batch: int | str = 4, seed: int = 0) -> Path:
    """Two linear layers with GELU between, ``x (batch, 16) -> y (batch, 8)``, as ONNX."""
    rng = np.random.default_rng(seed)
    shapes = {"a": (16, 24), "b": (24,), "c": (24, 8)}
    weights = {n: rng.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["xa"]),
        helper.make_node("Add", ["xa", "b"], ["xab"]),
        helper.make_node("Gelu", ["xab"], ["h"]),
        helper.make_node("MatMul", ["h", "c"], ["y"]),
    ]
    return write_model(path, nodes, weights, x=(batch, 16), y=(batch, 8))


def write_matmul(path: Path) -> Path:
    """One task whose kernel is long enough to be timed steadily on a busy machine."""
    weight = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return write_model(path, nodes, {"w": weight}, x=(64, 256), y=(64, 256))


def write_model(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, np.ndarray],
    *,
    x: Sequence[int | str],
    y: Sequence[int | str],
    code: int = TensorProto.FLOAT,
) -> Path:
    """An ONNX file with one input ``x`` and one output ``y`` of the given shapes."""
    graph = helper.make_graph(
        list(nodes),
        path.stem,
        [helper.make_tensor_value_info("x", code, x)],
        [helper.make_tensor_value_info("y", code, y)],
        initializer=[numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), str(path))
    return path

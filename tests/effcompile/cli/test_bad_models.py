"""Models that cannot be tuned: one message, the defined exit status, no traceback."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.effcompile.cli.commands import refusal, write_perceptron

Shown = pytest.CaptureFixture[str]


def one_node(path: Path, operator: str, *, domain: str = "") -> None:
    """A model of one operator on ``x (2, 4)``."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 4))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 4))
    node = helper.make_node(operator, ["x"], ["y"], name="odd", domain=domain)
    opsets = [helper.make_opsetid("", 20)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    graph = helper.make_graph([node], "one", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), str(path))


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

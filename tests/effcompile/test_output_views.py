"""Reshaped results are views of what a kernel wrote, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, helper

from effcompile.apply import apply, compile_program
from effcompile.output_views import outputs_as_views
from schedules import _tvm
from tests.effcompile.lowered_models import CPU, graph_model, lowered

X = np.random.default_rng(0).standard_normal((6, 64)).astype(np.float32)
FLAT = {"flat": np.array([384], dtype=np.int64)}


def softmax_of(name: str, result: str) -> NodeProto:
    """A kernel of its own: softmax is never fused with its neighbours."""
    return helper.make_node("Softmax", [name], [result], axis=-1)


def reshaped(name: str, result: str, shape: str = "flat") -> NodeProto:
    return helper.make_node("Reshape", [name, shape], [result])


def softmax(x: np.ndarray) -> np.ndarray:
    raised = np.exp(x - x.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


ONE = softmax(X)
TWO = softmax(ONE)
PROGRAMS = {
    # Nodes, outputs, results, and how many reshapes are copies in the end.
    "of a kernel": ([softmax_of("x", "a"), reshaped("a", "y")], ["y"], [ONE.reshape(-1)], 0),
    "read on": (
        # Five more tensors of one size follow: none may take the memory of the first result.
        [
            *[softmax_of("x", "a"), reshaped("a", "y"), softmax_of("a", "b"), softmax_of("b", "c")],
            *[softmax_of("c", "d"), softmax_of("d", "e"), softmax_of("e", "z")],
        ],
        ["y", "z"],
        [ONE.reshape(-1), softmax(softmax(softmax(TWO)))],
        0,
    ),
    "of an argument": ([reshaped("x", "y")], ["y"], [X.reshape(-1)], 1),
    "of a result": (
        [softmax_of("x", "a"), reshaped("a", "y")],
        ["a", "y"],
        [ONE, ONE.reshape(-1)],
        0,
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_results_are_right_and_seldom_copied(name: str, tmp_path: Path) -> None:
    nodes, outputs, wanted, n_copies = PROGRAMS[name]
    program = lowered(graph_model(nodes, {"x": X}, outputs, constants=FLAT))
    scheduled = apply(program, {}, CPU)
    tvm = _tvm.load()
    from tvm import relax

    viewed = relax.transform.RewriteDataflowReshape()(outputs_as_views(scheduled))
    assert viewed.script().count("call_tir(cls.reshape") == n_copies
    library = compile_program(scheduled, CPU, tmp_path / "model.so")
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
    found = machine[program.entries[0].name](tvm.runtime.tensor(X))
    found = [found] if len(wanted) == 1 else list(found)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-5)

"""Recurrent operators against ONNX's reference, which knows one direction only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from effcompile.errors import BadModel
from tests.effcompile.lowered_models import graph_model, lowered, normal, run_lowered

STEPS, BATCH, WIDTH, HIDDEN = 3, 2, 3, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def weights(op_type: str, n_directions: int) -> dict[str, np.ndarray]:
    rows = GATES[op_type] * HIDDEN
    found = {
        "w": normal(n_directions, rows, WIDTH, seed=1),
        "r": normal(n_directions, rows, HIDDEN, seed=2),
        "b": normal(n_directions, 2 * rows, seed=3),
        "h": normal(n_directions, BATCH, HIDDEN, seed=4),
    }
    return found | ({"c": normal(n_directions, BATCH, HIDDEN, seed=5)} if op_type == "LSTM" else {})


def model(op_type: str, stored: dict[str, np.ndarray], x: np.ndarray, **attrs: Any) -> Any:
    names = ["x", "w", "r", "b", "", "h", *(["c"] if "c" in stored else [])]
    outputs = ["y", "last", *(["cell"] if op_type == "LSTM" else [])]
    node = helper.make_node(op_type, names, outputs, hidden_size=HIDDEN, **attrs)
    return graph_model([node], {"x": x}, outputs, constants=stored, opset=21)


@pytest.mark.parametrize(
    ("op_type", "attrs"),
    [("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("RNN", {})],
    ids=["lstm", "gru", "gru_torch", "rnn"],
)
def test_every_step_and_the_last_state_agree(op_type: str, attrs: dict[str, Any]) -> None:
    x = normal(STEPS, BATCH, WIDTH, seed=0)
    made = model(op_type, weights(op_type, 1), x, **attrs)
    expected = ReferenceEvaluator(made).run(None, {"x": x})
    found = run_lowered(lowered(made), [x])
    for one, other in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_allclose(one, other, **TOLERANCE)


def test_both_directions_are_each_direction_alone() -> None:
    x = normal(STEPS, BATCH, WIDTH, seed=0)
    stored = weights("LSTM", 2)
    both = run_lowered(lowered(model("LSTM", stored, x, direction="bidirectional")), [x])
    for index, order in enumerate((1, -1)):
        one = {name: value[index : index + 1] for name, value in stored.items()}
        turned = np.ascontiguousarray(x[::order])
        shown, *lasts = run_lowered(lowered(model("LSTM", one, turned)), [turned])
        np.testing.assert_allclose(both[0][:, index : index + 1], shown[::order], **TOLERANCE)
        for last, of_both in zip(lasts, both[1:], strict=True):
            np.testing.assert_allclose(of_both[index : index + 1], last, **TOLERANCE)


def test_the_last_state_of_the_cell_agrees_with_torch() -> None:
    import torch

    from effcompile.export import export_module

    torch.manual_seed(0)
    module = torch.nn.LSTM(WIDTH, HIDDEN)
    x = torch.from_numpy(normal(STEPS, BATCH, WIDTH, seed=0))
    shown, (last, cell) = module(x)
    found = run_lowered(lowered(export_module(module, (x,))), [x.numpy()])
    for one, other in zip(found, (shown, last, cell), strict=True):
        np.testing.assert_allclose(one, other.detach().numpy(), **TOLERANCE)


@pytest.mark.parametrize(
    ("attrs", "said"),
    [
        ({"clip": 1.0}, "clip"),
        ({"activations": ["Relu"]}, r"activations \['Relu'\] are not served"),
    ],
)
def test_what_is_not_served_is_named(attrs: dict[str, Any], said: str) -> None:
    x = normal(STEPS, BATCH, WIDTH, seed=0)
    with pytest.raises(BadModel, match=said):
        lowered(model("RNN", weights("RNN", 1), x, **attrs))

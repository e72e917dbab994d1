"""Attention over a paged cache: one operator, the same numbers eager, compiled and in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper
from torch import nn

from effcompile.errors import BadModel
from effcompile.export import export_module
from effcompile.extract import extract_tasks
from effcompile.frontend.checking import prepare_model
from effcompile.lower import lower
from effcompile.torch_ops import paged_attention
from schedules.inputs import make_inputs
from schedules.reference import references_of
from schedules.spaces import spaces_for
from schedules.target import known_target
from schedules.workload import Workload
from tests.effcompile.lowered_models import graph_model, lowered, operators, run_lowered
from tests.schedules.decode_workloads import Decode

H200 = known_target("h200")
PLAIN = Decode(
    heads=6,
    kv_heads=2,
    keys=64,
    width=16,
    batch=3,
    queries=2,
    dtype="float32",
    lengths="int32",
    causal=True,
    at_end=True,
    page=16,
)
LIMITED = replace(PLAIN, queries=1, page=32, softcap=3.0, window_left=19, value_width=24)


class Paged(nn.Module):
    """The operator with the attributes of a workload."""

    def __init__(self, shape: Decode) -> None:
        super().__init__()
        window = shape.window_left + 1
        self.attrs: dict[str, Any] = {"softcap": shape.softcap, "window": window or -1}

    def forward(
        self,
        query: torch.Tensor,
        key_pages: torch.Tensor,
        value_pages: torch.Tensor,
        table: torch.Tensor,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        return paged_attention(query, key_pages, value_pages, table, lengths, **self.attrs)


def inputs_of(workload: Workload) -> list[np.ndarray]:
    """Random ones, one sequence of one token, nonsense in the table behind the valid pages."""
    inputs = make_inputs(workload, 3)
    inputs[4][0] = 2
    inputs[3][0, 1:] = -77
    return inputs


@pytest.mark.parametrize("shape", [PLAIN, LIMITED], ids=["grouped", "limited"])
def test_paged_attention_is_one_operator_with_the_numbers_of_its_reference(shape: Decode) -> None:
    workload = shape.workload()
    inputs = inputs_of(workload)
    (reference,) = references_of(workload, inputs)
    clean = [*inputs[:3], np.clip(inputs[3], 0, None), inputs[4]]
    tensors = tuple(torch.from_numpy(x) for x in clean)
    module = Paged(shape).eval()
    program = lowered(export_module(module, tensors))
    (found,) = run_lowered(program, inputs)
    assert operators(program) == ["paged_attention"]
    for one in (module(*tensors).numpy(), found):
        np.testing.assert_allclose(one, reference.values, rtol=2e-5, atol=2e-5)


def node_model(shapes: dict[str, tuple[int, ...]], **attrs: Any) -> Any:
    node = helper.make_node("PagedAttention", list(shapes), ["y"], domain="effcompile", **attrs)
    dtypes = {"table": np.int32, "lengths": np.int64}
    inputs = {name: np.zeros(s, dtypes.get(name, np.float16)) for name, s in shapes.items()}
    return graph_model([node], inputs, ["y"], output_types={"y": 10})


SHAPES = {
    "q": (2, 8, 1, 64),
    "k": (40, 2, 16, 64),
    "v": (40, 2, 16, 64),
    "table": (2, 20),
    "lengths": (2,),
}


def test_it_is_tuned_by_the_family_of_few_queries() -> None:
    found = extract_tasks(lower({"main": prepare_model(node_model(SHAPES))}, H200), H200)
    (task,) = [one.task for one in found]
    assert task.workload.op == "paged_attention"
    assert spaces_for(task)[0] == "attention_decode"


@pytest.mark.parametrize(
    ("changes", "attrs", "message"),
    [
        ({"table": (3, 20)}, {}, "block table must be int32"),
        ({"lengths": (3,)}, {}, "lengths must be int32 or int64"),
        ({"v": (40, 2, 32, 64)}, {}, "key and value pages must match"),
        ({"q": (2, 7, 1, 64)}, {}, "key heads divide query heads"),
        ({"k": (40, 2, 1024)}, {}, "query must be"),
        ({}, {"scale": -1.0}, "expected a positive number"),
    ],
)
def test_what_does_not_fit_is_explained(
    changes: dict[str, Any], attrs: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadModel, match=message):
        lower({"main": prepare_model(node_model(SHAPES | changes, **attrs))}, H200)

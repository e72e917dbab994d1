"""Operators of masked attention: programs against the reference, refused attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from effcompile.bench.kernels.custom_models import custom_model
from effcompile.errors import BadModel
from effcompile.export import export_module
from effcompile.extract import extract_tasks
from effcompile.frontend.checking import prepare_model
from effcompile.lower import lower
from effcompile.torch_ops import block_sparse_attention, frame_causal_attention, packed_attention
from schedules.program_reference import run_program
from schedules.references.attention import reference
from tests.effcompile.lowered_models import lowered, run_lowered
from tests.schedules.masked_workloads import (
    Masked,
    blocks,
)
from tests.schedules.test_attention import H200


class Frames(nn.Module):
    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return frame_causal_attention(query, key, value, [40, 50, 60])


class Blocks(nn.Module):
    def __init__(self, blocks: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("blocks", blocks)

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return block_sparse_attention(query, key, value, self.blocks, block=128, scale=0.2)


class BlocksOfTheCall(nn.Module):
    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: torch.Tensor
    ) -> torch.Tensor:
        return block_sparse_attention(query, key, value, blocks, block=128)


class Packed(nn.Module):
    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: torch.Tensor
    ) -> torch.Tensor:
        return packed_attention(query, key, value, starts, causal=True)


def test_torch_operators_compute_the_same_on_a_cpu() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, 150, 16) for heads in (4, 2, 2))
    starts = torch.tensor([0, 30, 30, 110, 150], dtype=torch.int32)
    live = torch.tensor([[[[True, False], [False, False]]]])
    for layer, given in (
        (Frames(), (query[:, :, 30:], key, value)),
        (Packed(), (query, key, value, starts)),
        (Blocks(live), (query, key, value)),
        (BlocksOfTheCall(), (query, key, value, live)),
    ):
        (found,) = run_lowered(lowered(export_module(layer, given)), [x.numpy() for x in given])
        np.testing.assert_allclose(found, layer(*given).numpy(), rtol=1e-4, atol=1e-5)
    assert (found[:, :, 128:] == 0).all() and (found[:, :, :128] != 0).any()


@pytest.mark.parametrize("form", ["tiles", "bool", "float"])
def test_the_program_is_the_reference(form: Any) -> None:
    """Through ONNX, so that the program is the front end's."""
    from onnx import TensorProto, helper

    case = Masked(mask=blocks(70, 100), form=form, width=16, dtype="float32", mask_dtype="float32")
    inputs = case.inputs(seed=0)
    shapes = {name: x.shape for name, x in zip("qkv", inputs[:3], strict=True)}
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    kind = TensorProto.FLOAT if form == "float" else TensorProto.BOOL
    mask = inputs[3] if form == "float" else case.mask
    stored = []
    if form == "tiles":
        stored.append(numpy_helper.from_array(mask, "mask"))
    else:
        values.append(helper.make_tensor_value_info("mask", kind, mask.shape))
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes["q"])
    node = helper.make_node("Attention", ["q", "k", "v", "mask"], ["y"])
    graph = helper.make_graph([node], "masked", values, [result], initializer=stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    (found,) = extract_tasks(lower({"main": prepare_model(model)}, H200), H200)
    assert found.task.workload.attrs["mask"] == form
    (got,) = run_program(found.task.workload, inputs)
    (wanted,) = reference(case.workload(), inputs)
    np.testing.assert_allclose(got, wanted.values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "attrs", "message"),
    [
        ("FrameCausalAttention", {"frame_lengths": [10, 20]}, "sum is the number of"),
        ("FrameCausalAttention", {"frame_lengths": [100, 0]}, "positive numbers"),
        ("BlockSparseAttention", {"block": 32}, "multiple of 64"),
        ("BlockSparseAttention", {"block": 128}, r"\(1 or 1, 1 or 2, 1, 1\)"),
        ("BlockSparseAttention", {"scale": -1.0}, "positive number"),
    ],
)
def test_bad_attributes_are_refused(op: str, attrs: dict[str, Any], message: str) -> None:
    tokens = ((1, 2, 100, 64), "float16")
    model = custom_model(op, dict.fromkeys("qkv", tokens), {"y": tokens}, **attrs)
    if op == "BlockSparseAttention":
        model.graph.node[0].input.append("blocks")
        stored = numpy_helper.from_array(np.ones((1, 1, 2, 2), bool), "blocks")
        model.graph.initializer.append(stored)
    with pytest.raises(BadModel, match=message):
        lowered(model)

"""Attention, softmax and norms as PyTorch users write them: which family gets each workload."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from effcompile.export import export_module
from effcompile.extract import extract
from effcompile.frontend.checking import prepare_model
from effcompile.lower import lower
from schedules.families import SUPERSEDED, own_spaces
from schedules.target import known_target
from tests.effcompile.lowered_models import CPU, run_lowered

pytestmark = pytest.mark.timeout(120)


class Attentions(torch.nn.Module):
    """One attention in many spellings."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("past", torch.tril(torch.ones(80, 80)).view(1, 1, 80, 80))

    def forward(self, q: Any, kv: tuple[Any, Any, Any], allowed: Any, added: Any) -> Any:
        k, v, few = kv
        scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(q.shape[-1]))
        filled = scores.masked_fill(self.past[:, :, :80, :80] == 0, float("-inf"))
        hidden = torch.where(allowed, scores, float("-inf"))
        lowest = torch.where(allowed, scores, torch.finfo(scores.dtype).min)
        capped = torch.tanh(scores / 5.0) * 5.0 + added
        biased = scores + added + added[:, :, :1]
        raised = (scores - scores.amax(-1, keepdim=True)).exp()
        repeated = few[:, :, None].expand(-1, -1, 2, -1, -1).reshape(q.shape)
        tokens_first = torch.einsum("bqhd,bkhd->bhqk", q.transpose(1, 2), k.transpose(1, 2))
        return (
            filled.softmax(-1) @ v,
            hidden.softmax(-1) @ v,
            lowest.softmax(-1) @ v,
            functional.softmax(capped, dim=-1, dtype=torch.float32).to(q.dtype) @ v,
            biased.softmax(-1) @ v,
            (raised / raised.sum(-1, keepdim=True)) @ v,
            functional.scaled_dot_product_attention(q, repeated, repeated),
            torch.einsum("bhqk,bkhd->bqhd", (tokens_first * 0.1).softmax(-1), v.transpose(1, 2)),
        )


def attention_inputs(dtype: torch.dtype) -> tuple[Any, ...]:
    torch.manual_seed(0)
    qkv = [torch.randn(1, 4, 80, 32).to(dtype) for _ in range(3)]
    few = torch.randn(1, 2, 80, 32).to(dtype)
    allowed = torch.rand(1, 1, 80, 80) < 0.5
    return qkv[0], (*qkv[1:], few), allowed, torch.randn(1, 1, 80, 80).to(dtype)


class Norms(torch.nn.Module):
    """Norms from their arithmetic, in the dtype of the input and in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.rand(96))
        self.bias = torch.nn.Parameter(torch.rand(96))

    def forward(self, x: Any) -> tuple[Any, ...]:
        wide = x.float()
        normal = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        centred = x - x.mean(-1, keepdim=True)
        variance = x.var(-1, keepdim=True, unbiased=False)
        shape = self.weight.shape
        return (
            (normal * (1.0 + self.weight.float())).type_as(x),
            centred / torch.sqrt(variance + 1e-5),
            self.weight * (centred * torch.rsqrt(variance + 1e-5)) + self.bias,
            functional.layer_norm(wide, shape, self.weight.float(), self.bias.float()).to(x.dtype),
        )


class Mixed(torch.nn.Module):
    """What bfloat16 used to be refused for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(8, 16, 3, bias=False)
        self.norm = torch.nn.BatchNorm2d(16)

    def forward(self, x: Any, y: Any) -> tuple[Any, ...]:
        length = functional.normalize(y, dim=-1)
        return functional.relu(self.norm(self.conv(x))), length, (0.5 * y.pow(3)).clamp(min=-1)


def extracted(module: torch.nn.Module, inputs: tuple[Any, ...], target: str) -> Any:
    model = prepare_model(export_module(module.eval(), inputs))
    device = known_target(target)
    return extract(lower({"main": model}, device), device)


def families(extraction: Any) -> Counter[str]:
    """Calls by the first space of their own that serves them, ``tvm`` where none does."""
    found: Counter[str] = Counter()
    for each in extraction.tasks:
        names = [space.name for space in own_spaces(each.task)]
        names = [name for name in names if not set(SUPERSEDED.get(name, ())) & set(names)]
        found[names[0] if names else "tvm"] += each.n_calls
    return found


@pytest.mark.parametrize(
    ("dtype", "target", "expected"),
    [
        (torch.float16, "h100", {"attention": 4, "attention_masked": 4}),
        (torch.bfloat16, "a100", {"attention_mma": 8}),
        (torch.float32, "h100", {"attention_simt": 8}),
    ],
)
def test_attention_gets_its_family_however_it_is_written(
    dtype: torch.dtype, target: str, expected: dict[str, int]
) -> None:
    found = families(extracted(Attentions().to(dtype), attention_inputs(dtype), target))
    assert {name: n for name, n in found.items() if name != "elementwise"} == expected


def test_repeated_heads_are_not_copied() -> None:
    extraction = extracted(Attentions().half(), attention_inputs(torch.float16), "h100")
    workloads = [each.task.workload for each in extraction.tasks]
    attentions = [one for one in workloads if one.op == "attention"]
    assert (1, 2, 80, 32) in [one.inputs[1].shape for one in attentions]


def test_norms_get_their_family_however_they_are_written() -> None:
    found = families(extracted(Norms().bfloat16(), (torch.rand(128, 96).bfloat16(),), "h100"))
    assert found == {"row_norm": 4}


def test_bfloat16_convolutions_powers_and_bounds_are_taken() -> None:
    inputs = (torch.rand(2, 8, 30, 30).bfloat16(), torch.rand(300, 128).bfloat16())
    found = families(extracted(Mixed().bfloat16(), inputs, "h100"))
    assert found["conv"] == 1
    assert found["tvm"] == 1  # the sum of squares


def test_packed_projections_are_split_by_what_reads_them() -> None:
    module = torch.nn.TransformerEncoderLayer(128, 2, 256, batch_first=True).half().eval()
    found = families(extracted(module, (torch.rand(2, 64, 128).half(),), "h100"))
    assert found == {"matmul": 4, "attention": 1, "row_norm": 2, "elementwise": 6}


@pytest.mark.parametrize("make", [Attentions, Norms])
def test_results_are_those_of_pytorch(make: type[torch.nn.Module]) -> None:
    module = make().eval()
    x = torch.randn(16, 96)
    inputs = attention_inputs(torch.float32) if make is Attentions else (x,)
    with torch.no_grad():
        expected = module(*inputs)
    model = prepare_model(export_module(module, inputs))
    flat = [one.numpy() for one in torch.utils._pytree.tree_leaves(inputs)]
    found = run_lowered(lower({"main": model}, CPU), flat)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=2e-4, atol=2e-5)


class Twice(torch.nn.Module):
    """Functions that read one tensor more than once."""

    def forward(self, x: Any) -> tuple[Any, ...]:
        return x * x, x @ x.transpose(-1, -2), functional.scaled_dot_product_attention(x, x, x)


def test_functions_that_read_a_tensor_twice_have_programs() -> None:
    extraction = extracted(Twice(), (torch.rand(2, 4, 64, 64).half(),), "h100")
    assert len(extraction.tasks) >= 3
    for each in extraction.tasks:
        space = own_spaces(each.task)[0]
        names = [spec.name for spec in each.task.workload.inputs]
        assert len(set(names)) == len(names)
        candidate = space.sample(1, np.random.default_rng(0))[0]
        assert space.realise(candidate) is not None

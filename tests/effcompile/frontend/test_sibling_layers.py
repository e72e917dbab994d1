"""16-bit layers of one input as PyTorch exports them: which are joined, and numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from effcompile.export import export_module
from effcompile.frontend.checking import prepare_model
from effcompile.lower import LoweredProgram, lower
from schedules.target import Target, known_target
from tests.effcompile.lowered_models import CPU, run_lowered

WIDTH, HEADS, TOKENS = 16, 3, 5
H200 = known_target("h200")
Form = Callable[[Any, torch.Tensor], Any]


class Layers(nn.Module):
    """``form`` says what is done with layers ``q``, ``k`` and ``v``."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(24, HEADS * WIDTH), nn.Linear(24, WIDTH, bias=False)
        self.v, self.norm, self.form = nn.Linear(24, WIDTH), nn.RMSNorm(WIDTH, eps=1e-6), form

    def forward(self, x: torch.Tensor) -> Any:
        return self.form(self, x)


def program_of(form: Form, target: Target = H200, *, batch: int = 2) -> LoweredProgram:
    """The lowered module, after its numbers on a CPU were compared with PyTorch's."""
    torch.manual_seed(0)
    module = Layers(form).half().eval()
    x = torch.randn(batch, TOKENS, 24).half()
    program = lower({"main": prepare_model(export_module(module, (x,)))}, target)
    found = run_lowered(program, [x.numpy()])
    with torch.no_grad():
        results = module.float()(x.float())
    wanted = results if isinstance(results, tuple) else (results,)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.astype(float), other.numpy(), rtol=1e-2, atol=1e-2)
    return program


def products(program: LoweredProgram) -> int:
    names = [variable.name_hint for variable, _ in program.module.functions_items()]
    return sum("matmul" in name for name in names)


def heads(x: torch.Tensor) -> torch.Tensor:
    return x.view(*x.shape[:2], -1, WIDTH).transpose(1, 2)


def attention(self: Any, x: torch.Tensor) -> torch.Tensor:
    q, k, v = (heads(layer(x)) for layer in (self.q, self.k, self.v))
    return nn.functional.scaled_dot_product_attention(self.norm(q), k, v, enable_gqa=True)


def read_as_they_are(self: Any, x: torch.Tensor) -> Any:
    return self.k(x), self.v(x)


def with_endings(self: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(self.k(x)) + self.v(x)


def one_after_the_other(self: Any, x: torch.Tensor) -> Any:
    return heads(self.k(x)) * 2, heads(self.v(torch.sigmoid(x))) * 2


@pytest.mark.timeout(60)
def test_queries_keys_and_values_are_one_product() -> None:
    program = program_of(attention)
    assert products(program) == 1
    shapes = [array.shape for array in program.parameters.values()]
    assert (24, (HEADS + 2) * WIDTH) in shapes


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "form", [read_as_they_are, with_endings, one_after_the_other], ids=lambda form: form.__name__
)
def test_layers_that_would_be_copied_or_lose_their_ending_stay_apart(form: Form) -> None:
    assert products(program_of(form)) == 2


@pytest.mark.timeout(60)
def test_layers_stay_apart_where_slices_are_copied() -> None:
    assert products(program_of(attention, CPU)) == 3

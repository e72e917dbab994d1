"""What stands around norms of heads in PyTorch's exports: which functions it becomes, numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from effcompile.export import export_module
from effcompile.frontend.checking import prepare_model
from effcompile.lower import LoweredProgram, lower
from schedules.target import known_target
from tests.effcompile.lowered_models import operators, run_lowered

H200 = known_target("h200")
HEADS, WIDTH, TOKENS, TEXT = 3, 16, 7, 4
ALL = HEADS * WIDTH


def pairs(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """As diffusers turns neighbours."""
    real, imaginary = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack([-imaginary, real], dim=-1).flatten(3)
    return x * cos + turned * sin


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.text = nn.Linear(24, 3 * ALL), nn.Linear(24, 3 * ALL)
        self.norms = nn.ModuleList(nn.RMSNorm(WIDTH, eps=1e-6) for _ in range(4))
        for norm in self.norms:
            nn.init.uniform_(norm.weight, 0.5, 1.5)


class LanguageModel(Base):
    """Norms before heads are put first; halves turn, one table for a batch."""

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        shape = (*x.shape[:2], -1, WIDTH)
        parts = self.qkv(x).split(ALL, -1)
        q, k = (
            norm(part.view(shape)).transpose(1, 2)
            for norm, part in zip(self.norms[:2], parts[:2], strict=True)
        )
        v = parts[2].view(shape).transpose(1, 2)
        q, k = (
            one * cos + torch.cat([-one[..., WIDTH // 2 :], one[..., : WIDTH // 2]], -1) * sin
            for one in (q, k)
        )
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class OneStream(Base):
    """As FLUX's own code writes it: queries, keys and values permuted at once, 2 x 2 rotations."""

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        shape = (*x.shape[:2], 3, HEADS, WIDTH)
        q, k, v = self.qkv(x).view(shape).permute(2, 0, 3, 1, 4)
        turns = torch.stack([cos, -sin, sin, cos], -1)[..., ::2, :].unflatten(-1, (2, 2))
        q, k = (
            self.turned(norm(one), turns) for norm, one in zip(self.norms[:2], (q, k), strict=True)
        )
        return nn.functional.scaled_dot_product_attention(q, k, v)

    def turned(self, x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        wide = x.float().reshape(*x.shape[:-1], -1, 1, 2)
        return (turns[..., 0] * wide[..., 0] + turns[..., 1] * wide[..., 1]).reshape(x.shape)


class TwoStreams(Base):
    """Text and image tokens with norms of their own; ``first`` says what turns."""

    def __init__(self, first: str) -> None:
        super().__init__()
        self.first = first

    def forward(
        self, x: torch.Tensor, text: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> torch.Tensor:
        q, k, v = self.heads(self.qkv(x), self.norms[:2])
        tq, tk, tv = self.heads(self.text(text), self.norms[2:])
        if self.first == "image":
            q, k = pairs(q, cos[TEXT:], sin[TEXT:]), pairs(k, cos[TEXT:], sin[TEXT:])
            q, k, v = torch.cat([q, tq], 2), torch.cat([k, tk], 2), torch.cat([v, tv], 2)
        else:
            q, k, v = torch.cat([tq, q], 2), torch.cat([tk, k], 2), torch.cat([tv, v], 2)
            q, k = pairs(q, cos, sin), pairs(k, cos, sin)
        return nn.functional.scaled_dot_product_attention(q, k, v)

    def heads(self, product: torch.Tensor, norms: nn.ModuleList) -> list[torch.Tensor]:
        shape = (*product.shape[:2], 3, HEADS, WIDTH)
        q, k, v = product.view(shape).permute(2, 0, 3, 1, 4).unbind(0)
        return [norms[0](q), norms[1](k), v]


def tables(n_tokens: int) -> list[torch.Tensor]:
    angles = torch.randn(n_tokens, WIDTH // 2).repeat_interleave(2, -1)
    return [angles.cos(), angles.sin()]


def program_of(module: nn.Module, *inputs: torch.Tensor) -> LoweredProgram:
    """The program for a GPU, after its numbers on a CPU were compared with PyTorch's."""
    torch.manual_seed(0)
    module = module.eval()
    program = lower({"main": prepare_model(export_module(module, inputs))}, H200)
    (found,) = run_lowered(program, [one.numpy() for one in inputs])
    with torch.no_grad():
        np.testing.assert_allclose(found, module(*inputs).numpy(), rtol=2e-5, atol=2e-5)
    return program


def kernels(program: LoweredProgram) -> int:
    """Functions that the entry point calls, views aside."""
    from effcompile.extract import extract

    found = extract(program, H200)
    left_out = [one for one in found.left_out if "view" not in one.reason]
    return sum(one.n_calls for one in (*found.tasks, *left_out))


FORMS: dict[str, tuple[Callable[[], nn.Module], list[torch.Tensor], int]] = {
    "language model": (LanguageModel, [torch.randn(2, TOKENS, 24), *tables(TOKENS)], 5),
    "one stream": (OneStream, [torch.randn(1, TOKENS, 24), *tables(TOKENS)], 6),
    "text first": (
        lambda: TwoStreams("text"),
        [torch.randn(1, TOKENS, 24), torch.randn(1, TEXT, 24), *tables(TEXT + TOKENS)],
        6,
    ),
    "image turned": (
        lambda: TwoStreams("image"),
        [torch.randn(1, TOKENS, 24), torch.randn(1, TEXT, 24), *tables(TEXT + TOKENS)],
        6,
    ),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("form", FORMS)
def test_queries_and_keys_are_one_function_each(form: str) -> None:
    make, inputs, n_kernels = FORMS[form]
    program = program_of(make(), *inputs)
    found = operators(program)
    assert found.count("attention") == 1 and not {"rms_norm", "layer_norm"} & set(found)
    assert kernels(program) == n_kernels

"""Norms and their neighbours as PyTorch exports them: which functions they become, and numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from effcompile.export import export_module
from effcompile.frontend.kernels.marking import marks_of
from effcompile.lower import LoweredProgram
from tests.effcompile.lowered_models import lowered, operators, run_lowered


def functions(program: LoweredProgram) -> list[str]:
    return sorted(
        v.name_hint
        for v, f in program.module.functions_items()
        if hasattr(f, "body") and v.name_hint != "main"
    )


def exported(module: nn.Module, *inputs: torch.Tensor) -> LoweredProgram:
    """The lowered module, after its numbers were compared with PyTorch's."""
    module = module.eval()
    program = lowered(export_module(module, inputs))
    (found,) = run_lowered(program, [one.numpy() for one in inputs])
    with torch.no_grad():
        np.testing.assert_allclose(found, module(*inputs).numpy(), rtol=2e-5, atol=2e-5)
    return program


class Modulated(nn.Module):
    """A norm with scale and shift per image, as in diffusion transformers."""

    def __init__(self, norm: nn.Module, factor: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.norm, self.factor = norm, factor

    def forward(self, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return self.factor(self.norm(x), scale, shift)


FORMS: dict[str, Any] = {
    "unsqueeze": lambda x, scale, shift: x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1),
    "index": lambda x, scale, shift: shift[:, None] + (scale[:, None] + 1) * x,
}


@pytest.mark.parametrize(
    ("form", "norm"),
    [
        ("unsqueeze", nn.LayerNorm(24, elementwise_affine=False)),
        ("index", nn.LayerNorm(24)),
        ("index", nn.RMSNorm(24)),
    ],
    ids=["plain", "affine", "rms"],
)
def test_modulated_norms_are_one_function(form: str, norm: nn.Module) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2, 5, 24), torch.randn(2, 24), torch.randn(2, 24)
    program = exported(Modulated(norm, FORMS[form]), *inputs)
    name = "rms_norm" if isinstance(norm, nn.RMSNorm) else "layer_norm"
    assert operators(program) == [name]
    (attrs,) = [
        marks_of(f)[1] for v, f in program.module.functions_items() if v.name_hint.startswith(name)
    ]
    assert attrs["modulated"] is True


@pytest.mark.parametrize("factor", ["x * (2 + a) + b", "x * (1 + a) + b * x"])
def test_other_arithmetic_is_left_outside_of_the_norm(factor: str) -> None:
    module = Modulated(nn.LayerNorm(24), lambda x, a, b: eval(factor, {}, {"x": x, "a": a, "b": b}))
    inputs = torch.randn(2, 5, 24), torch.randn(2, 1, 24), torch.randn(2, 1, 24)
    program = exported(module, *inputs)
    (attrs,) = [
        marks_of(f)[1]
        for v, f in program.module.functions_items()
        if v.name_hint.startswith("layer_norm")
    ]
    assert "modulated" not in attrs


class SwiGlu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.gate, self.down = nn.Linear(24, 48), nn.Linear(24, 48), nn.Linear(48, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


class Gelu(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.up, self.form = nn.Linear(24, 48), form

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.gelu(self.up(x), approximate=self.form)


class Rope(nn.Module):
    """Rotation of halves or of neighbours by given cosines and sines."""

    def __init__(self, interleaved: bool) -> None:
        super().__init__()
        self.interleaved = interleaved

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        if self.interleaved:
            one, two = x[..., ::2], x[..., 1::2]
            return torch.stack([one * cos - two * sin, two * cos + one * sin], -1).flatten(-2)
        one, two = x.chunk(2, -1)
        return torch.cat([one * cos - two * sin, two * cos + one * sin], -1)


class AxialRope(nn.Module):
    """Frame, row and column turn a part of every head each, as in video transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = Rope(interleaved=True)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        parts = zip(
            x.split((4, 6, 6), -1), cos.split((2, 3, 3), -1), sin.split((2, 3, 3), -1), strict=True
        )
        return torch.cat([self.turn(*part) for part in parts], -1)


def test_activations_end_the_product_before_them() -> None:
    x = torch.randn(2, 5, 24)
    for form in ("none", "tanh"):
        (name,) = functions(exported(Gelu(form), x))
        assert name.startswith("fused_matmul_add_gelu")
    products = functions(exported(SwiGlu(), x))
    assert len(products) == 3
    assert all(name.startswith("fused_matmul") for name in products)


@pytest.mark.parametrize("module", [Rope(False), Rope(True), AxialRope()], ids=str)
def test_rotary_embeddings_are_one_function(module: nn.Module) -> None:
    angles = torch.randn(7, 8)
    program = exported(module, torch.randn(2, 3, 7, 16), angles.cos(), angles.sin())
    assert len(functions(program)) == 1

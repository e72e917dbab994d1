"""Cases of plain PyTorch functions: their models, seeded inputs, and what of them is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from effcompile.bench.kernels.case import Tensors

COMPARED = 1 << 20
Specs = Sequence[tuple[tuple[int, ...], str]]
"""Shape and dtype of every input."""


def function_model(function: Callable[..., Any], specs: Specs) -> Any:
    """The ONNX model of a function."""
    import torch
    from torch import nn

    from effcompile.export import export_module

    class Function(nn.Module):  # type: ignore[misc]
        def forward(self, *inputs: Any) -> Any:
            return function(*inputs)

    zeros = [torch.zeros(shape, dtype=getattr(torch, dtype)) for shape, dtype in specs]
    return export_module(Function(), zeros)


def normal_inputs(specs: Specs, seed: int) -> list[Any]:
    """N(0, 1) on the GPU."""
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    return [
        torch.randn(shape, device="cuda", dtype=getattr(torch, dtype), generator=generator)
        for shape, dtype in specs
    ]


def ends_in_float64(function: Callable[..., Any], inputs: Tensors) -> Tensors:
    """The ends of the one result that a function gives of raised inputs."""
    return [ends(function(*(one.double() for one in inputs)))]


def ends(x: Any) -> Any:
    """The first and the last elements."""
    import torch

    flat = x.reshape(-1)
    return torch.cat([flat[:COMPARED], flat[-COMPARED:]])

"""What stands between the products of transformers, against PyTorch eager and Inductor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

from effcompile.bench.kernels.case import KernelCase, Tensors, direct, inductor

Shapes = tuple[tuple[int, ...], ...]
COMPARED = 1 << 20


def cases() -> list[KernelCase]:
    """Activations, gates and rotary embeddings at sizes of language and video models."""
    rows, image, heads = (4096, 18944), (4, 4096, 3072), (1, 28, 13440, 128)
    half = (heads[-2], heads[-1] // 2)
    return [
        _case("swiglu", _swiglu, (rows, rows)),
        _case("gelu", _gelu, ((4429, 12288),)),
        _case("gated-residual", _gated, (image, image, (4, 3072))),
        _case("rope", _rope, (heads, half, half)),
        _case("rope-axial", _axial_rope, (heads, half, half)),
    ]


def _case(name: str, function: Callable[..., Any], shapes: Shapes) -> KernelCase:
    result = shapes[0]
    return KernelCase(
        name=f"{name}-{'x'.join(map(str, result))}-bfloat16",
        family="elementwise",
        model=partial(_model, function, shapes),
        inputs=partial(_inputs, shapes),
        reference=partial(_reference, function),
        sample=lambda found: [_ends(found[0])],
        n_bytes=2 * (sum(map(prod, shapes)) + prod(result)),
        tolerance=2e-2,
        peers={"torch eager": direct(function), "inductor max-autotune": inductor(function)},
    )


def _swiglu(gate: Any, up: Any) -> Any:
    from torch.nn.functional import silu

    return silu(gate) * up


def _gelu(x: Any) -> Any:
    from torch.nn.functional import gelu

    return gelu(x, approximate="tanh")


def _gated(x: Any, branch: Any, gate: Any) -> Any:
    return x + branch * gate[:, None]


def _rope(x: Any, cos: Any, sin: Any) -> Any:
    import torch

    one, two = x.chunk(2, -1)
    return torch.cat([one * cos - two * sin, two * cos + one * sin], -1)


def _axial_rope(x: Any, cos: Any, sin: Any) -> Any:
    """Frame, row and column turn 16, 56 and 56 features of a head in pairs."""
    import torch

    parts = [x.shape[-1] * k // 16 for k in (2, 7, 7)]
    halves = [part // 2 for part in parts]
    pieces = zip(x.split(parts, -1), cos.split(halves, -1), sin.split(halves, -1), strict=True)
    return torch.cat([_turned_pairs(*one) for one in pieces], -1)


def _turned_pairs(x: Any, cos: Any, sin: Any) -> Any:
    import torch

    one, two = x[..., ::2], x[..., 1::2]
    return torch.stack([one * cos - two * sin, two * cos + one * sin], -1).flatten(-2)


def _model(function: Callable[..., Any], shapes: Shapes) -> Any:
    import torch
    from torch import nn

    from effcompile.export import export_module

    class Function(nn.Module):  # type: ignore[misc]
        def forward(self, *inputs: Any) -> Any:
            return function(*inputs)

    return export_module(Function(), [torch.zeros(each, dtype=torch.bfloat16) for each in shapes])


def _inputs(shapes: Shapes, seed: int) -> list[Any]:
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    return [
        torch.randn(each, device="cuda", dtype=torch.bfloat16, generator=generator)
        for each in shapes
    ]


def _reference(function: Callable[..., Any], inputs: Tensors) -> Tensors:
    return [_ends(function(*(one.double() for one in inputs)))]


def _ends(x: Any) -> Any:
    """The first and the last elements."""
    import torch

    flat = x.reshape(-1)
    return torch.cat([flat[:COMPARED], flat[-COMPARED:]])

"""What stands between the products of transformers, against PyTorch eager and Inductor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

from effcompile.bench.kernels.case import KernelCase, direct, inductor
from effcompile.bench.kernels.plain_functions import (
    ends,
    ends_in_float64,
    function_model,
    normal_inputs,
)

Shapes = tuple[tuple[int, ...], ...]


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
    result, specs = shapes[0], [(shape, "bfloat16") for shape in shapes]
    return KernelCase(
        name=f"{name}-{'x'.join(map(str, result))}-bfloat16",
        family="elementwise",
        model=partial(function_model, function, specs),
        inputs=partial(normal_inputs, specs),
        reference=partial(ends_in_float64, function),
        sample=lambda found: [ends(found[0])],
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

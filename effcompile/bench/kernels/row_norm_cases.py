"""Layer and root-mean-square norms, alone and modulated, against PyTorch eager and Inductor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

from effcompile.bench.kernels.case import KernelCase, Tensors, direct, inductor

EPSILON = 1e-6
COMPARED_ROWS = 512


def cases() -> list[KernelCase]:
    """Language models normalise sums before each product, diffusion transformers also modulate."""
    return [
        _case("rms", (13440, 3584)),
        _case("sum-rms", (13440, 3584)),
        _case("layer", (16384, 3072)),
        _case("layer-modulated", (4, 4096, 3072)),
    ]


def _case(kind: str, shape: tuple[int, ...]) -> KernelCase:
    function = _FUNCTIONS[kind]
    shapes = _shapes(kind, shape)
    n_rows = 4 if kind.startswith("sum") else 2
    return KernelCase(
        name=f"norm-{kind}-{'x'.join(map(str, shape))}-bfloat16",
        family="row_norm",
        model=partial(_model, function, shapes),
        inputs=partial(_inputs, shapes),
        reference=partial(_reference, function),
        sample=lambda found: list(map(_some_rows, found)),
        n_bytes=n_rows * 2 * prod(shape),
        tolerance=3e-2,
        peers={
            "torch eager": direct(function),
            "inductor max-autotune": inductor(function),
        },
    )


def _shapes(kind: str, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Of the rows, what is added to them, the weight, scale and shift."""
    added = [shape] if kind.startswith("sum") else []
    modulation = [(shape[0], shape[-1])] * 2 if kind.endswith("modulated") else []
    return [shape, *added, (shape[-1],), *modulation]


def _rms(x: Any, weight: Any) -> Any:
    from torch.nn.functional import rms_norm

    return rms_norm(x, x.shape[-1:], weight, eps=EPSILON)


def _rms_of_sum(x: Any, residual: Any, weight: Any) -> Any:
    total = x + residual
    return _rms(total, weight), total


def _layer(x: Any, weight: Any) -> Any:
    from torch.nn.functional import layer_norm

    return layer_norm(x, x.shape[-1:], weight, eps=EPSILON)


def _modulated_layer(x: Any, weight: Any, scale: Any, shift: Any) -> Any:
    return _layer(x, weight) * (1 + scale[:, None]) + shift[:, None]


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "rms": _rms,
    "sum-rms": _rms_of_sum,
    "layer": _layer,
    "layer-modulated": _modulated_layer,
}


def _model(function: Callable[..., Any], shapes: list[tuple[int, ...]]) -> Any:
    import torch
    from torch import nn

    from effcompile.export import export_module

    class Norm(nn.Module):  # type: ignore[misc]
        def forward(self, *inputs: Any) -> Any:
            return function(*inputs)

    return export_module(Norm(), [torch.zeros(each, dtype=torch.bfloat16) for each in shapes])


def _inputs(shapes: list[tuple[int, ...]], seed: int) -> list[Any]:
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    return [
        torch.randn(each, device="cuda", dtype=torch.bfloat16, generator=generator)
        for each in shapes
    ]


def _reference(function: Callable[..., Any], inputs: Tensors) -> Tensors:
    found = function(*(one.double() for one in inputs))
    return list(map(_some_rows, found if isinstance(found, tuple) else (found,)))


def _some_rows(x: Any) -> Any:
    import torch

    rows = x.reshape(-1, x.shape[-1])
    return torch.cat([rows[:COMPARED_ROWS], rows[-COMPARED_ROWS:]])

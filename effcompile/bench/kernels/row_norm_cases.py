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
    """Language models normalise before each product, diffusion transformers also modulate."""
    return [
        _case("rms", (13440, 3584), modulated=False),
        _case("layer", (16384, 3072), modulated=False),
        _case("layer-modulated", (4, 4096, 3072), modulated=True),
    ]


def _case(kind: str, shape: tuple[int, ...], *, modulated: bool) -> KernelCase:
    function = partial(_norm, kind.startswith("layer"))
    return KernelCase(
        name=f"norm-{kind}-{'x'.join(map(str, shape))}-bfloat16",
        family="row_norm",
        model=partial(_model, kind.startswith("layer"), shape, modulated=modulated),
        inputs=partial(_inputs, shape, modulated),
        reference=partial(_reference, function),
        sample=lambda found: [_some_rows(found[0])],
        n_bytes=2 * 2 * prod(shape),
        tolerance=3e-2,
        peers={
            "torch eager": direct(function),
            "inductor max-autotune": inductor(function),
        },
    )


def _norm(centred: bool, x: Any, weight: Any, *modulation: Any) -> Any:
    from torch.nn import functional

    norm: Callable[..., Any] = functional.layer_norm if centred else functional.rms_norm
    normal = norm(x, x.shape[-1:], weight, eps=EPSILON)
    if not modulation:
        return normal
    scale, shift = modulation
    return normal * (1 + scale[:, None]) + shift[:, None]


def _model(centred: bool, shape: tuple[int, ...], *, modulated: bool) -> Any:
    import torch
    from torch import nn

    from effcompile.export import export_module

    class Norm(nn.Module):  # type: ignore[misc]
        def forward(self, x: Any, weight: Any, *modulation: Any) -> Any:
            return _norm(centred, x, weight, *modulation)

    vectors = [(shape[-1],), *([(shape[0], shape[-1])] * 2 if modulated else [])]
    inputs = [torch.zeros(each, dtype=torch.bfloat16) for each in (shape, *vectors)]
    return export_module(Norm(), inputs)


def _inputs(shape: tuple[int, ...], modulated: bool, seed: int) -> list[Any]:
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    vectors = [(shape[-1],), *([(shape[0], shape[-1])] * 2 if modulated else [])]
    return [
        torch.randn(each, device="cuda", dtype=torch.bfloat16, generator=generator)
        for each in (shape, *vectors)
    ]


def _reference(function: Callable[..., Any], inputs: Tensors) -> Tensors:
    return [_some_rows(function(*(one.double() for one in inputs)))]


def _some_rows(x: Any) -> Any:
    import torch

    rows = x.reshape(-1, x.shape[-1])
    return torch.cat([rows[:COMPARED_ROWS], rows[-COMPARED_ROWS:]])

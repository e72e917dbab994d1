"""Norms of heads with their rotary embedding, against PyTorch eager and Inductor."""

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
EPSILON = 1e-6
WIDTH = 128


def cases() -> list[KernelCase]:
    """Queries of a language model, and of joint attention over text and image tokens."""
    halves = ((1, 4096, 32 * WIDTH), (WIDTH,), (1, 4096, WIDTH), (1, 4096, WIDTH))
    text, image, heads = 512, 4096, 24 * WIDTH
    joint = ((1, text, heads), (1, image, heads), (WIDTH,), (WIDTH,))
    every, images = ((text + image, WIDTH),) * 2, ((image, WIDTH),) * 2
    bfloat16, float32 = ["bfloat16"] * 4, ["float32"] * 2
    return [
        _case("halves", _halves, halves, bfloat16),
        _case("pairs-text-first", _text_first, (*joint, *every), [*bfloat16, *float32]),
        _case("pairs-image-only", _image_only, (*joint, *images), [*bfloat16, *float32]),
    ]


def _case(name: str, function: Callable[..., Any], shapes: Shapes, dtypes: list[str]) -> KernelCase:
    specs = list(zip(shapes, dtypes, strict=True))
    n_bytes = sum((4 if dtype == "float32" else 2) * prod(shape) for shape, dtype in specs)
    rows = [shape for shape in shapes if shape[-1] > WIDTH]
    size = (sum(shape[1] for shape in rows), rows[0][-1] // WIDTH, WIDTH)
    return KernelCase(
        name=f"heads-{name}-{'x'.join(map(str, size))}-bfloat16",
        family="head_norm",
        model=partial(function_model, function, specs),
        inputs=partial(normal_inputs, specs),
        reference=partial(ends_in_float64, function),
        sample=lambda found: [ends(found[0])],
        n_bytes=n_bytes + 2 * prod(size),
        tolerance=3e-2,
        peers={"torch eager": direct(function), "inductor max-autotune": inductor(function)},
    )


def _halves(x: Any, weight: Any, cos: Any, sin: Any) -> Any:
    """As language models write it: halves of a head turn against each other."""
    import torch

    x = _heads(x, weight)
    one, two = x.chunk(2, -1)
    return x * cos[:, None] + torch.cat([-two, one], -1) * sin[:, None]


def _text_first(*inputs: Any) -> Any:
    """All tokens turn, text in front (FLUX)."""
    import torch

    text, image, w_text, w_image, cos, sin = inputs
    x = torch.cat([_heads(text, w_text), _heads(image, w_image)], 2)
    return _turned_pairs(x, cos, sin)


def _image_only(*inputs: Any) -> Any:
    """Image tokens turn by tables of frame, row and column, text behind (HunyuanVideo)."""
    import torch

    text, image, w_text, w_image, cos, sin = inputs
    return torch.cat([_turned_pairs(_heads(image, w_image), cos, sin), _heads(text, w_text)], 2)


def _heads(x: Any, weight: Any) -> Any:
    """Normed heads before tokens."""
    from torch.nn.functional import rms_norm

    heads = x.view(*x.shape[:2], -1, WIDTH).transpose(1, 2)
    return rms_norm(heads, (WIDTH,), weight, eps=EPSILON)


def _turned_pairs(x: Any, cos: Any, sin: Any) -> Any:
    import torch

    real, imaginary = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack([-imaginary, real], -1).flatten(3)
    return (x.to(cos.dtype) * cos + turned.to(cos.dtype) * sin).to(x.dtype)

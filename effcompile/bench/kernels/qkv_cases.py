"""From a layer's input to queries, keys and values, against PyTorch eager and Inductor.

Three products, norms of the heads of queries and keys, rotary embedding, heads before tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from effcompile.bench.kernels.case import KernelCase, Peer, Tensors, inductor

DEPTH, HEAD = 2048, 128
HEADS = (16, 8, 8)
EPSILON = 1e-6


def cases() -> list[KernelCase]:
    """A language model of width 2048 and 16 query heads: a few tokens, and a prompt."""
    return [_case(tokens) for tokens in (16, 1024)]


def _case(tokens: int) -> KernelCase:
    columns = sum(HEADS) * HEAD
    n_elements = tokens * (DEPTH + 2 * HEAD + columns) + columns * DEPTH
    return KernelCase(
        name=f"qkv-{tokens}x{columns}x{DEPTH}-bfloat16",
        family="head_norm",
        model=partial(_model, tokens),
        inputs=partial(_inputs, tokens),
        reference=_reference,
        n_bytes=2 * n_elements,
        n_flops=2 * tokens * columns * DEPTH,
        tolerance=4e-2,
        peers={"torch eager": _eager, "inductor max-autotune": _compiled()},
    )


@cache
def _weights() -> list[Any]:
    """Matrices of queries, keys and values, (columns, depth), and of both norms, on the CPU."""
    import torch

    generator = torch.Generator().manual_seed(0)
    shapes = [*((heads * HEAD, DEPTH) for heads in HEADS), (HEAD,), (HEAD,)]
    made = [torch.randn(shape, generator=generator) for shape in shapes]
    return [(one * shape[-1] ** -0.5 if one.ndim == 2 else one + 2).bfloat16()
            for one, shape in zip(made, shapes, strict=True)]  # fmt: skip


def _layers(x: Any, cos: Any, sin: Any, *weights: Any) -> tuple[Any, Any, Any]:
    """Queries and keys, normed and turned, and values."""
    from torch.nn.functional import linear, rms_norm

    parts = [linear(x, one).view(*x.shape[:2], -1, HEAD) for one in weights[:3]]
    q, k = (
        _turned(rms_norm(part, (HEAD,), norm, eps=EPSILON).transpose(1, 2), cos, sin)
        for part, norm in zip(parts[:2], weights[3:], strict=True)
    )
    return q, k, parts[2].transpose(1, 2)


def _turned(x: Any, cos: Any, sin: Any) -> Any:
    import torch

    one, two = x.chunk(2, -1)
    return x * cos + torch.cat([-two, one], -1) * sin


def _model(tokens: int) -> Any:
    import torch
    from torch import nn

    from effcompile.export import export_module

    class Front(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.ParameterList(map(nn.Parameter, _weights()))

        def forward(self, x: Any, cos: Any, sin: Any) -> Any:
            return _layers(x, cos, sin, *self.weights)

    zeros = [torch.zeros(shape, dtype=torch.bfloat16) for shape in _shapes(tokens)]
    return export_module(Front().eval(), zeros)


def _shapes(tokens: int) -> list[tuple[int, ...]]:
    return [(1, tokens, DEPTH), (tokens, HEAD), (tokens, HEAD)]


def _inputs(tokens: int, seed: int) -> list[Any]:
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    return [
        torch.randn(shape, device="cuda", dtype=torch.bfloat16, generator=generator)
        for shape in _shapes(tokens)
    ]


def _eager(inputs: Tensors) -> Callable[[], Any]:
    weights = [one.cuda() for one in _weights()]
    return lambda: _layers(*inputs, *weights)


def _compiled() -> Peer:
    peer = inductor(_layers)
    return lambda inputs: peer([*inputs, *(one.cuda() for one in _weights())])


def _reference(inputs: Tensors) -> Tensors:
    raised = [one.double() for one in (*inputs, *(weight.cuda() for weight in _weights()))]
    return list(_layers(*raised))

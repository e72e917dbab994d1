"""A gate and what it opens, of 16-bit weights, against PyTorch and Inductor on the same layers.

Peers have both matrices side by side, so that they need one product as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from effcompile.bench.kernels.case import KernelCase, Peer, Tensors, inductor

DEPTH, COLUMNS = 2048, 5632
COMPARED_ROWS = 256


def cases() -> list[KernelCase]:
    """SwiGLU of a language model of width 2048: one token, a short and a long prompt."""
    return [_case(rows) for rows in (1, 128, 4096)]


def _case(rows: int) -> KernelCase:
    return KernelCase(
        name=f"gated-{rows}x{COLUMNS}x{DEPTH}-bfloat16",
        family="matmul",
        model=partial(_model, rows),
        inputs=partial(_inputs, rows),
        reference=_reference,
        sample=lambda found: [_some_rows(found[0])],
        n_bytes=2 * (rows * DEPTH + 2 * COLUMNS * DEPTH + rows * COLUMNS),
        n_flops=4 * rows * COLUMNS * DEPTH,
        tolerance=3e-2,
        peers={"torch eager": _eager, "inductor max-autotune": _compiled()},
    )


@cache
def _matrices() -> tuple[Any, Any]:
    """Gate and opened, (columns, depth), of variance one over the depth, on the CPU."""
    import torch

    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(COLUMNS, DEPTH, generator=generator) * DEPTH**-0.5 for _ in range(2)]
    return made[0].bfloat16(), made[1].bfloat16()


def _model(rows: int) -> Any:
    import torch
    from torch import nn

    from effcompile.export import export_module

    class Layer(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.up = map(nn.Parameter, _matrices())

        def forward(self, x: Any) -> Any:
            linear = nn.functional.linear
            return nn.functional.silu(linear(x, self.gate)) * linear(x, self.up)

    return export_module(Layer().eval(), [torch.zeros(rows, DEPTH, dtype=torch.bfloat16)])


def _inputs(rows: int, seed: int) -> list[Any]:
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    return [torch.randn(rows, DEPTH, device="cuda", dtype=torch.bfloat16, generator=generator)]


def _layer(x: Any, matrix: Any) -> Any:
    from torch.nn.functional import linear, silu

    gate, up = linear(x, matrix).chunk(2, -1)
    return silu(gate) * up


def _side_by_side() -> Any:
    import torch

    return torch.cat(_matrices()).cuda()


def _eager(inputs: Tensors) -> Callable[[], Any]:
    matrix = _side_by_side()
    return lambda: _layer(inputs[0], matrix)


def _compiled() -> Peer:
    peer = inductor(_layer)
    return lambda inputs: peer([inputs[0], _side_by_side()])


def _reference(inputs: Tensors) -> Tensors:
    from torch.nn.functional import silu

    x = _some_rows(inputs[0]).double()
    gate, up = (x @ one.cuda().double().T for one in _matrices())
    return [silu(gate) * up]


def _some_rows(x: Any) -> Any:
    import torch

    return torch.cat([x[:COMPARED_ROWS], x[-COMPARED_ROWS:]])

"""Matrix products of half precision, against cuBLAS through torch and Inductor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from effcompile.bench.kernels.case import KernelCase, Tensors, direct, inductor
from effcompile.bench.single_ops import matmul_model

SHAPES = (
    (512, 512, 512),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (4096, 4096, 4096),
    (16, 4096, 4096),
    (2048, 11008, 4096),
)
"""Rows, columns, terms."""

COMPARED_ROWS = 256


def cases() -> list[KernelCase]:
    """One case per shape, in float16."""
    return [_case(*shape) for shape in SHAPES]


def _case(m: int, n: int, k: int) -> KernelCase:
    return KernelCase(
        name=f"matmul-{m}x{n}x{k}-float16",
        family="matmul",
        model=partial(matmul_model, m, n, k, "float16"),
        inputs=_inputs(m, n, k),
        reference=_reference,
        sample=lambda outputs: [_some_rows(outputs[0])],
        n_bytes=2 * (m * k + k * n + m * n),
        n_flops=2 * m * n * k,
        tolerance=1e-2,
        peers={
            "torch.matmul (cuBLAS)": direct(_matmul),
            "inductor max-autotune": inductor(_matmul),
        },
    )


def _inputs(m: int, n: int, k: int) -> Callable[[int], list[Any]]:
    def inputs(seed: int) -> list[Any]:
        import torch

        generator = torch.Generator("cuda").manual_seed(seed)
        return [
            torch.randn(shape, device="cuda", dtype=torch.float16, generator=generator)
            for shape in ((m, k), (k, n))
        ]

    return inputs


def _matmul(a: Any, b: Any) -> Any:
    return a @ b


def _reference(inputs: Tensors) -> Tensors:
    a, b = inputs
    return [_some_rows(a).double() @ b.double()]


def _some_rows(x: Any) -> Any:
    """First and last rows: enough to see a wrong kernel, small enough to compare."""
    import torch

    return torch.cat([x[:COMPARED_ROWS], x[-COMPARED_ROWS:]])

"""Softmax over rows, against torch.softmax and Inductor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from effcompile.bench.kernels.case import KernelCase, Tensors, direct, inductor
from effcompile.bench.single_ops import softmax_model

SHAPES = (
    (4096, 4096, "float32"),
    (8192, 4096, "float32"),
    (98304, 4096, "bfloat16"),
    (32768, 1024, "float16"),
    (128, 131072, "float32"),
    (64, 262144, "bfloat16"),
)
"""Rows, columns, dtype."""

COMPARED_ROWS = 512


def cases() -> list[KernelCase]:
    """One case per shape."""
    return [_case(*shape) for shape in SHAPES]


def _case(rows: int, columns: int, dtype: str) -> KernelCase:
    size = 4 if dtype == "float32" else 2
    return KernelCase(
        name=f"softmax-{rows}x{columns}-{dtype}",
        family="softmax",
        model=partial(softmax_model, rows, columns, dtype),
        inputs=_inputs(rows, columns, dtype),
        reference=_reference,
        sample=lambda outputs: [_some_rows(outputs[0])],
        n_bytes=2 * rows * columns * size,
        tolerance=1e-3 if dtype == "float32" else 3e-2,
        peers={"torch.softmax": direct(_softmax), "inductor max-autotune": inductor(_softmax)},
    )


def _inputs(rows: int, columns: int, dtype: str) -> Callable[[int], list[Any]]:
    def inputs(seed: int) -> list[Any]:
        import torch

        generator = torch.Generator("cuda").manual_seed(seed)
        shape, kind = (rows, columns), getattr(torch, dtype)
        return [torch.randn(shape, device="cuda", dtype=kind, generator=generator)]

    return inputs


def _softmax(x: Any) -> Any:
    import torch

    return torch.softmax(x, -1)


def _reference(inputs: Tensors) -> Tensors:
    return [_softmax(_some_rows(inputs[0]).double())]


def _some_rows(x: Any) -> Any:
    """First and last rows: enough to see a wrong kernel, small enough to compare."""
    import torch

    return torch.cat([x[:COMPARED_ROWS], x[-COMPARED_ROWS:]])

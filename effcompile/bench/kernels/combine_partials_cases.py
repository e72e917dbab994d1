"""Partial softmax results combined, against PyTorch eager and Inductor."""

from __future__ import annotations

from typing import Any

from effcompile.bench.kernels.case import KernelCase
from effcompile.bench.kernels.row_case import normal, row_case
from schedules.row_space import ELEMENT_BYTES


def cases() -> list[KernelCase]:
    """Attention over eight parts of the keys."""
    return [_partials(8, 24 * 4429, 64, "float32")]


def _partials(splits: int, rows: int, width: int, dtype: str) -> KernelCase:
    def inputs(generator: Any) -> list[Any]:
        parts = normal((splits, rows, width), dtype, generator)
        return [parts, normal((splits, rows), "float32", generator)]

    def function(parts: Any, sums: Any) -> Any:
        import torch

        lse = torch.logsumexp(sums, 0)
        weights = torch.exp(sums - lse)[..., None]
        return (weights * parts).sum(0).to(parts.dtype), lse

    size = ELEMENT_BYTES[dtype]
    return row_case(
        f"combine-partials-{splits}x{rows}x{width}-{dtype}",
        {"parts": ((splits, rows, width), dtype), "sums": ((splits, rows), "float32")},
        {"y": ((rows, width), dtype), "lse": ((rows,), "float32")},
        op_type="CombinePartials",
        attrs={},
        inputs=inputs,
        function=function,
        n_bytes=(splits + 1) * rows * (width * size + 4),
        tolerance=1e-3,
        n_compared=2,
    )

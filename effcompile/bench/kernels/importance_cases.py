"""What the last query pays to every key, against PyTorch eager and Inductor."""

from __future__ import annotations

from typing import Any

from effcompile.bench.kernels.case import KernelCase
from effcompile.bench.kernels.row_case import normal, row_case
from schedules.importance_problem import OP


def cases() -> list[KernelCase]:
    """The layer in which FrameFusion prunes 64 frames, of a model of 7 billion parameters."""
    return [_importance(28, 4, 13440, 128, "bfloat16")]


def _importance(heads: int, kv_heads: int, keys: int, width: int, dtype: str) -> KernelCase:
    shapes = {
        "query": ((1, heads, 1, width), dtype),
        "key": ((1, kv_heads, keys, width), dtype),
    }

    def function(query: Any, key: Any) -> Any:
        import torch

        asked = query.reshape(kv_heads, heads // kv_heads, width)
        scores = (asked @ key[0].transpose(1, 2)) * width**-0.5
        kind = torch.float64 if query.dtype == torch.float64 else torch.float32
        return torch.softmax(scores.to(kind), -1).mean((0, 1))[None]

    return row_case(
        f"importance-{heads}q{kv_heads}kv-{keys}x{width}-{dtype}",
        shapes,
        {"importance": ((1, keys), "float32")},
        op_type="LastRowImportance",
        attrs={},
        inputs=lambda generator: [
            normal(shape, kind, generator) for shape, kind in shapes.values()
        ],
        function=function,
        n_bytes=2 * (kv_heads * keys + heads) * width + 4 * keys,
        tolerance=3e-2,
        family=OP,
    )

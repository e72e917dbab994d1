"""Cosines of consecutive frames, against PyTorch eager and Inductor."""

from __future__ import annotations

from typing import Any

from effcompile.bench.kernels.case import KernelCase
from effcompile.bench.kernels.row_case import normal, row_case
from schedules.row_space import ELEMENT_BYTES


def cases() -> list[KernelCase]:
    """Sizes of FrameFusion."""
    return [
        _cosine(13440, 3584, 210, "bfloat16"),
        _cosine(11648, 5120, 182, "bfloat16"),
    ]


def _cosine(rows: int, width: int, places: int, dtype: str) -> KernelCase:
    def function(x: Any) -> Any:
        import torch

        kind = torch.float64 if x.dtype == torch.float64 else torch.float32
        now, then = x[places:].to(kind), x[:-places].to(kind)
        norms = now.norm(dim=1).clamp_min(1e-8) * then.norm(dim=1).clamp_min(1e-8)
        first = torch.full((places,), -2.0, device=x.device, dtype=kind)
        return torch.cat([first, (now * then).sum(1) / norms])

    def inputs(generator: Any) -> list[Any]:
        base = normal((places, width), dtype, generator).repeat(-(-rows // places), 1)[:rows]
        return [base + normal((rows, width), dtype, generator)]

    return row_case(
        f"frame-cosine-{rows}x{width}-{dtype}",
        {"x": ((rows, width), dtype)},
        {"y": ((rows,), "float32")},
        op_type="FrameCosine",
        attrs={"places": places},
        inputs=inputs,
        function=function,
        n_bytes=rows * width * ELEMENT_BYTES[dtype] + 4 * rows,
        tolerance=1e-3,
    )

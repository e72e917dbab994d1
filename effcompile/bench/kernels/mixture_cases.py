"""Rows that are one row or two of others, against PyTorch eager and Inductor."""

from __future__ import annotations

from typing import Any

from effcompile.bench.kernels.case import KernelCase, Tensors
from effcompile.bench.kernels.row_case import DEVICE, long, normal, row_case, whole
from schedules.row_space import ELEMENT_BYTES


def cases() -> list[KernelCase]:
    """Sizes of DLFR-VAE, VGDFR and DiTFastAttnV2."""
    return [
        _expand(3, 53, 97, 544 * 960, "float16"),
        _renoise(16, 25, 15, 68 * 120, "bfloat16"),
        _select(4608, 24, 128, "bfloat16"),
    ]


def _expand(repetitions: int, kept: int, frames: int, width: int, dtype: str) -> KernelCase:
    """Every second frame of the first part lies between two kept ones."""
    n_between = frames - kept

    def inputs(generator: Any) -> list[Any]:
        import torch

        at = torch.cat(
            [torch.arange(2 * n_between) / 2, torch.arange(frames - 2 * n_between) + n_between]
        )
        low, weight = at.floor(), (at - at.floor()).float().to(DEVICE)
        high = (low + 1).clamp_max(kept - 1)
        return [
            normal((repetitions, kept, width), dtype, generator),
            whole(low),
            whole(high),
            weight,
        ]

    def function(x: Any, low: Any, high: Any, weight: Any) -> Any:
        import torch

        kind = torch.float64 if x.dtype == torch.float64 else torch.float32
        share = weight.to(kind)[None, :, None]
        blended = (1 - share) * x[:, low].to(kind) + share * x[:, high].to(kind)
        return blended.to(x.dtype)

    def prepare(tensors: Tensors) -> Tensors:
        x, low, high, weight = tensors
        return [x, long(low), long(high), weight]

    index = ((frames,), "int32")
    return row_case(
        f"frame-expand-{repetitions}x{kept}-{frames}x{width}-{dtype}",
        {
            "x": ((repetitions, kept, width), dtype),
            "low": index,
            "high": index,
            "weight": ((frames,), "float32"),
        },
        {"y": ((repetitions, frames, width), dtype)},
        op_type="BlendRows",
        attrs={"axis": 1},
        inputs=inputs,
        prepare=prepare,
        function=function,
        n_bytes=repetitions * (frames + kept) * width * ELEMENT_BYTES[dtype],
        tolerance=1e-2,
    )


def _renoise(channels: int, latents: int, kept: int, width: int, dtype: str) -> KernelCase:
    def inputs(generator: Any) -> list[Any]:
        import torch

        index = torch.linspace(0, latents - 1, kept).round()
        sigma = torch.full((1,), 0.984, device=DEVICE)
        noise = normal((channels, latents, width), dtype, generator)
        return [noise, normal((channels, kept, width), dtype, generator), whole(index), sigma]

    def function(noise: Any, clean: Any, index: Any, sigma: Any) -> Any:
        import torch

        kind = torch.float64 if noise.dtype == torch.float64 else torch.float32
        share = sigma.to(kind)
        return (share * noise[:, index].to(kind) + (1 - share) * clean.to(kind)).to(noise.dtype)

    def prepare(tensors: Tensors) -> Tensors:
        noise, clean, index, sigma = tensors
        return [noise, clean, long(index), sigma]

    made = ((channels, kept, width), dtype)
    return row_case(
        f"renoise-{channels}x{latents}-{kept}x{width}-{dtype}",
        {
            "noise": ((channels, latents, width), dtype),
            "clean": made,
            "index": ((kept,), "int32"),
            "sigma": ((1,), "float32"),
        },
        {"y": made},
        op_type="RenoiseRows",
        attrs={"axis": 1},
        inputs=inputs,
        prepare=prepare,
        function=function,
        n_bytes=3 * channels * kept * width * ELEMENT_BYTES[dtype],
        tolerance=3e-2,
    )


def _select(tokens: int, heads: int, width: int, dtype: str) -> KernelCase:
    """Every second head from the cache."""
    n_cached = heads // 2
    source = [head // 2 if head % 2 else -1 for head in range(heads)]

    def inputs(generator: Any) -> list[Any]:
        fresh = normal((tokens, heads, width), dtype, generator)
        return [fresh, normal((tokens, n_cached, width), dtype, generator), whole(source)]

    def function(fresh: Any, cache: Any, source: Any) -> Any:
        import torch

        return torch.where((source >= 0)[:, None], cache[:, source.clamp_min(0)], fresh)

    def prepare(tensors: Tensors) -> Tensors:
        fresh, cache, chosen = tensors
        return [fresh, cache, long(chosen)]

    made = ((tokens, heads, width), dtype)
    return row_case(
        f"select-heads-{tokens}x{heads}x{width}-{dtype}",
        {
            "fresh": made,
            "cache": ((tokens, n_cached, width), dtype),
            "source": ((heads,), "int32"),
        },
        {"y": made},
        op_type="SelectRows",
        attrs={"axis": 1},
        inputs=inputs,
        prepare=prepare,
        function=function,
        n_bytes=2 * tokens * heads * width * ELEMENT_BYTES[dtype],
        tolerance=1e-6,
    )

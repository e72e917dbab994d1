"""Row-merging operators of video pipelines, against PyTorch eager and Inductor.

Peers get what they need (segment numbers, 64-bit indices) prepared outside of the timing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from effcompile.bench.kernels.case import KernelCase, Peer, Tensors, inductor
from effcompile.bench.kernels.custom_models import Shapes, custom_model
from schedules.merge_problem import ELEMENT_BYTES

DEVICE = "cuda"

Function = Callable[..., Any]
Prepare = Callable[[Tensors], Tensors]


def cases() -> list[KernelCase]:
    """Sizes of FrameFusion, VGDFR, DLFR-VAE and DiTFastAttnV2."""
    return [
        _cosine(13440, 3584, 210, "bfloat16"),
        _cosine(11648, 5120, 182, "bfloat16"),
        _mean(13440, 4032, 3584, 210, "bfloat16"),
        _mean(11648, 3495, 5120, 182, "bfloat16"),
        _pool(3, 97, 53, 272 * 480, "float16"),
        _expand(3, 53, 97, 544 * 960, "float16"),
        _renoise(16, 25, 15, 68 * 120, "bfloat16"),
        _select(4608, 24, 128, "bfloat16"),
        _partials(8, 24 * 4429, 64, "float32"),
    ]


def _case(
    name: str,
    shapes: Shapes,
    outputs: Shapes,
    *,
    op_type: str,
    attrs: Mapping[str, Any],
    inputs: Callable[[Any], list[Any]],
    function: Function,
    prepare: Prepare = tuple,
    n_bytes: int,
    tolerance: float,
    n_compared: int = 1,
) -> KernelCase:
    """A case whose peers compute ``function`` of what ``prepare`` makes of the inputs."""

    def seeded(seed: int) -> list[Any]:
        import torch

        return inputs(torch.Generator(DEVICE).manual_seed(seed))

    def reference(tensors: Tensors) -> Tensors:
        found = function(*(_raised(one) for one in prepare(tensors)))
        return found if isinstance(found, tuple) else [found]

    return KernelCase(
        name=name,
        family="merge",
        model=partial(custom_model, op_type, shapes, outputs, **attrs),
        inputs=seeded,
        reference=reference,
        sample=lambda found: list(found)[:n_compared],
        n_bytes=n_bytes,
        tolerance=tolerance,
        peers={
            "torch eager": _eager(function, prepare),
            "inductor max-autotune": _compiled(function, prepare),
        },
    )


def _raised(tensor: Any) -> Any:
    return tensor.double() if tensor.is_floating_point() else tensor


def _eager(function: Function, prepare: Prepare) -> Peer:
    def peer(inputs: Tensors) -> Callable[[], Any]:
        prepared = prepare(inputs)
        return lambda: function(*prepared)

    return peer


def _compiled(function: Function, prepare: Prepare) -> Peer:
    peer = inductor(function)
    return lambda inputs: peer(prepare(inputs))


def _normal(shape: tuple[int, ...], dtype: str, generator: Any) -> Any:
    import torch

    kind = getattr(torch, dtype)
    return torch.randn(shape, device=DEVICE, dtype=kind, generator=generator)


def _whole(values: Any) -> Any:
    import torch

    return torch.as_tensor(values, device=DEVICE).to(torch.int32)


def _long(tensor: Any) -> Any:
    return tensor.long()


def _cosine(rows: int, width: int, places: int, dtype: str) -> KernelCase:
    def function(x: Any) -> Any:
        import torch

        kind = torch.float64 if x.dtype == torch.float64 else torch.float32
        now, then = x[places:].to(kind), x[:-places].to(kind)
        norms = now.norm(dim=1).clamp_min(1e-8) * then.norm(dim=1).clamp_min(1e-8)
        first = torch.full((places,), -2.0, device=x.device, dtype=kind)
        return torch.cat([first, (now * then).sum(1) / norms])

    def inputs(generator: Any) -> list[Any]:
        base = _normal((places, width), dtype, generator).repeat(-(-rows // places), 1)[:rows]
        return [base + _normal((rows, width), dtype, generator)]

    return _case(
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


def _means(x: Any, rows: Any, numbers: Any, counts: Any) -> Any:
    """Rows added up by segment number; ``counts`` has one column."""
    import torch

    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    sums = torch.zeros(counts.shape[0], x.shape[1], device=x.device, dtype=kind)
    return (sums.index_add(0, numbers, x[rows].to(kind)) / counts).to(x.dtype)


def _mean(rows: int, groups: int, width: int, places: int, dtype: str) -> KernelCase:
    frames = rows // places

    def inputs(generator: Any) -> list[Any]:
        import torch

        # By place, then by time; a segment begins at every place and at random rows.
        order = torch.arange(rows, device=DEVICE).reshape(frames, places).t().reshape(-1)
        others = torch.arange(rows, device=DEVICE)
        others = others[others % frames != 0]
        picked = torch.randperm(len(others), device=DEVICE, generator=generator)
        begins = torch.arange(0, rows, frames, device=DEVICE)
        chosen = torch.cat([begins, others[picked[: groups - places]]]).sort().values
        starts = torch.cat([chosen, torch.full((1,), rows, device=DEVICE)])
        return [_normal((rows, width), dtype, generator), _whole(starts), _whole(order)]

    def prepare(tensors: Tensors) -> Tensors:
        import torch

        x, starts, order = tensors
        counts = (starts[1:] - starts[:-1]).long()
        numbers = torch.repeat_interleave(torch.arange(groups, device=DEVICE), counts)
        return [x, _long(order), numbers, counts.clamp_min(1)[:, None]]

    return _case(
        f"segment-mean-{rows}-{groups}x{width}-{dtype}",
        {
            "x": ((rows, width), dtype),
            "starts": ((groups + 1,), "int32"),
            "rows": ((rows,), "int32"),
        },
        {"y": ((groups, width), dtype)},
        op_type="SegmentMean",
        attrs={"axis": 0, "longest": frames},
        inputs=inputs,
        prepare=prepare,
        function=_means,
        n_bytes=(rows + groups) * width * ELEMENT_BYTES[dtype] + 4 * (rows + groups),
        tolerance=3e-2,
    )


def _pool(repetitions: int, frames: int, kept: int, width: int, dtype: str) -> KernelCase:
    """The first frame alone, the next ones in pairs until few enough are left."""
    n_pairs = frames - kept
    edges = [0, 1, *range(3, 2 * n_pairs + 2, 2), *range(2 * n_pairs + 2, frames + 1)]

    def inputs(generator: Any) -> list[Any]:
        return [_normal((repetitions, frames, width), dtype, generator), _whole(edges)]

    def function(x: Any, _starts: Any) -> Any:
        import torch

        kind = torch.float64 if x.dtype == torch.float64 else torch.float32
        pairs = x[:, 1 : 2 * n_pairs + 1].reshape(repetitions, n_pairs, 2, width)
        pooled = pairs.to(kind).mean(2).to(x.dtype)
        return torch.cat([x[:, :1], pooled, x[:, 2 * n_pairs + 1 :]], dim=1)

    size = ELEMENT_BYTES[dtype]
    return _case(
        f"frame-pool-{repetitions}x{frames}-{kept}x{width}-{dtype}",
        {"x": ((repetitions, frames, width), dtype), "starts": ((kept + 1,), "int32")},
        {"y": ((repetitions, kept, width), dtype)},
        op_type="SegmentMean",
        attrs={"axis": 1, "longest": 4},
        inputs=inputs,
        function=function,
        n_bytes=repetitions * (frames + kept) * width * size,
        tolerance=1e-2,
    )


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
            _normal((repetitions, kept, width), dtype, generator),
            _whole(low),
            _whole(high),
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
        return [x, _long(low), _long(high), weight]

    index = ((frames,), "int32")
    return _case(
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
        noise = _normal((channels, latents, width), dtype, generator)
        return [noise, _normal((channels, kept, width), dtype, generator), _whole(index), sigma]

    def function(noise: Any, clean: Any, index: Any, sigma: Any) -> Any:
        import torch

        kind = torch.float64 if noise.dtype == torch.float64 else torch.float32
        share = sigma.to(kind)
        return (share * noise[:, index].to(kind) + (1 - share) * clean.to(kind)).to(noise.dtype)

    def prepare(tensors: Tensors) -> Tensors:
        noise, clean, index, sigma = tensors
        return [noise, clean, _long(index), sigma]

    made = ((channels, kept, width), dtype)
    return _case(
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
        fresh = _normal((tokens, heads, width), dtype, generator)
        return [fresh, _normal((tokens, n_cached, width), dtype, generator), _whole(source)]

    def function(fresh: Any, cache: Any, source: Any) -> Any:
        import torch

        return torch.where((source >= 0)[:, None], cache[:, source.clamp_min(0)], fresh)

    def prepare(tensors: Tensors) -> Tensors:
        fresh, cache, chosen = tensors
        return [fresh, cache, _long(chosen)]

    made = ((tokens, heads, width), dtype)
    return _case(
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


def _partials(splits: int, rows: int, width: int, dtype: str) -> KernelCase:
    def inputs(generator: Any) -> list[Any]:
        parts = _normal((splits, rows, width), dtype, generator)
        return [parts, _normal((splits, rows), "float32", generator)]

    def function(parts: Any, sums: Any) -> Any:
        import torch

        lse = torch.logsumexp(sums, 0)
        weights = torch.exp(sums - lse)[..., None]
        return (weights * parts).sum(0).to(parts.dtype), lse

    size = ELEMENT_BYTES[dtype]
    return _case(
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

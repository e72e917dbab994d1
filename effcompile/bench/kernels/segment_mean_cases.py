"""Means of segments of rows, against PyTorch eager and Inductor."""

from __future__ import annotations

from typing import Any

from effcompile.bench.kernels.case import KernelCase, Tensors
from effcompile.bench.kernels.row_case import DEVICE, long, normal, row_case, whole
from schedules.row_space import ELEMENT_BYTES


def cases() -> list[KernelCase]:
    """Sizes of FrameFusion (tokens of a place) and DLFR-VAE (frames of a chunk)."""
    return [
        _mean(13440, 4032, 3584, 210, "bfloat16"),
        _mean(11648, 3495, 5120, 182, "bfloat16"),
        _pool(3, 97, 53, 272 * 480, "float16"),
    ]


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
        return [normal((rows, width), dtype, generator), whole(starts), whole(order)]

    def prepare(tensors: Tensors) -> Tensors:
        import torch

        x, starts, order = tensors
        counts = (starts[1:] - starts[:-1]).long()
        numbers = torch.repeat_interleave(torch.arange(groups, device=DEVICE), counts)
        return [x, long(order), numbers, counts.clamp_min(1)[:, None]]

    return row_case(
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
        return [normal((repetitions, frames, width), dtype, generator), whole(edges)]

    def function(x: Any, _starts: Any) -> Any:
        import torch

        kind = torch.float64 if x.dtype == torch.float64 else torch.float32
        pairs = x[:, 1 : 2 * n_pairs + 1].reshape(repetitions, n_pairs, 2, width)
        pooled = pairs.to(kind).mean(2).to(x.dtype)
        return torch.cat([x[:, :1], pooled, x[:, 2 * n_pairs + 1 :]], dim=1)

    size = ELEMENT_BYTES[dtype]
    return row_case(
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

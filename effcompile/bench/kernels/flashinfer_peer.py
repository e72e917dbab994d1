"""FlashInfer's decode attention over a cache in pages, also where the cache lies in a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import gcd
from typing import Any

from effcompile.bench.kernels.optional_peer import installed

WORKSPACE_BYTES = 128 << 20
PAGE = 16
PEERS = {"FlashInfer": False, "FlashInfer, tensor cores": True}
"""Name of a peer to whether it computes on tensor cores, where query heads share keys."""


def paged_decode(
    query: Any,
    pages: tuple[Any, Any],
    table: Any,
    lengths: Sequence[int],
    *,
    tensor_cores: bool,
) -> Callable[[], Any]:
    """A function that queues the attention of one query per sequence; planned beforehand.

    Args:
        query: Shape (batch, heads, 1, width), on the GPU.
        pages: Keys and values, each of shape (pages, key heads, page, width).
        table: Shape (batch, pages of a sequence): a sequence's pages in order.
        lengths: Keys of each sequence.
        tensor_cores: Use them.

    Raises:
        PeerNotInstalled: FlashInfer is not here.
    """
    library = installed("flashinfer", "flashinfer-python")
    import torch

    _, kv_heads, page, _ = pages[0].shape
    batch, heads, _, width = query.shape
    rows, last = used_pages(lengths, page)
    starts = torch.tensor([0, *rows]).cumsum(0).int()
    indices = torch.cat([row[:n] for row, n in zip(table, rows, strict=True)]).int()
    wrapper = library.BatchDecodeWithPagedKVCacheWrapper(
        _workspace(), kv_layout="HND", use_tensor_cores=tensor_cores
    )
    wrapper.plan(
        starts,
        indices,
        torch.tensor(last, dtype=torch.int32),
        heads,
        kv_heads,
        width,
        page,
        q_data_type=query.dtype,
        kv_data_type=query.dtype,
    )
    row = query.reshape(batch, heads, width)
    return lambda: wrapper.run(row, pages).reshape(query.shape)


def as_pages(cache: Any) -> tuple[Any, Any]:
    """A cache (batch, key heads, keys, width) as pages in place, and the table of its pages.

    FlashInfer shares a sequence among blocks page by page, so one page each would idle most of
    the GPU. Pages of one head follow each other here, and heads follow them: strides say so.
    """
    import torch

    batch, kv_heads, keys, width = cache.shape
    page = gcd(keys, PAGE)
    in_row = keys // page
    first = torch.arange(batch, device=cache.device)[:, None] * kv_heads * in_row
    table = first + torch.arange(in_row, device=cache.device)
    n_pages = ((batch - 1) * kv_heads + 1) * in_row
    strides = (page * width, keys * width, width, 1)
    return cache.as_strided((n_pages, kv_heads, page, width), strides), table


def used_pages(lengths: Sequence[int], page: int) -> tuple[list[int], list[int]]:
    """Of each sequence the number of pages, and the keys in the last of them."""
    pages = [-(-length // page) for length in lengths]
    return pages, [length - (n - 1) * page for length, n in zip(lengths, pages, strict=True)]


@cache
def _workspace() -> Any:
    """Where partial results lie; shared, since launches follow each other on one stream."""
    import torch

    return torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")

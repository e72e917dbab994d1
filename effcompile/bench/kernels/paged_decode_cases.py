"""Attention of one query per sequence over a cache in pages, against FlashInfer and PyTorch.

PyTorch has no operator that reads pages in place: one peer copies them first, the other finds
them copied already, which no user would have.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from effcompile.bench.kernels.case import KernelCase, Peer, Tensors, direct
from effcompile.bench.kernels.custom_models import custom_model
from effcompile.bench.kernels.flashinfer_peer import PEERS, paged_decode

BATCH, HEADS, KV_HEADS, KEYS, WIDTH = 8, 32, 8, 4096, 128
DTYPE = "bfloat16"
PAGES = (16, 64)


def cases() -> list[KernelCase]:
    """One case per size of a page; every page is full."""
    return [_case(page) for page in PAGES]


def _case(page: int) -> KernelCase:
    n_in_row = KEYS // page
    cache = ((BATCH * n_in_row, KV_HEADS, page, WIDTH), DTYPE)
    query = ((BATCH, HEADS, 1, WIDTH), DTYPE)
    shapes = {
        "q": query,
        "k": cache,
        "v": cache,
        "table": ((BATCH, n_in_row), "int32"),
        "lengths": ((BATCH,), "int32"),
    }
    return KernelCase(
        name=f"paged-decode-{BATCH}x{HEADS}q{KV_HEADS}kv-{KEYS}k-{WIDTH}-{DTYPE}-page{page}",
        family="attention_decode",
        model=partial(custom_model, "PagedAttention", shapes, {"y": query}),
        inputs=partial(_inputs, page),
        reference=_reference,
        n_bytes=2 * 2 * BATCH * WIDTH * (KV_HEADS * KEYS + HEADS),
        tolerance=3e-2,
        peers={
            "torch SDPA, pages copied first": direct(_copied),
            "torch SDPA, found copied": _found_copied,
            **{name: _flashinfer(cores) for name, cores in PEERS.items()},
        },
    )


def _inputs(page: int, seed: int) -> list[Any]:
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    n_pages = BATCH * (KEYS // page)
    shapes = [(BATCH, HEADS, 1, WIDTH), *[(n_pages, KV_HEADS, page, WIDTH)] * 2]
    made = [
        torch.randn(shape, device="cuda", dtype=torch.bfloat16, generator=generator)
        for shape in shapes
    ]
    order = torch.randperm(n_pages, device="cuda", generator=generator, dtype=torch.int32)
    lengths = torch.full((BATCH,), KEYS, device="cuda", dtype=torch.int32)
    return [*made, order.reshape(BATCH, -1), lengths]


def _in_a_row(pages: Any, table: Any) -> Any:
    """Shape (batch, key heads, keys, width)."""
    return pages[table.long()].transpose(1, 2).flatten(2, 3)


def _attended(query: Any, key: Any, value: Any) -> Any:
    from torch.nn.functional import scaled_dot_product_attention

    return scaled_dot_product_attention(query, key, value, enable_gqa=True)


def _copied(query: Any, key: Any, value: Any, table: Any, lengths: Any) -> Any:
    del lengths
    return _attended(query, _in_a_row(key, table), _in_a_row(value, table))


def _found_copied(inputs: Tensors) -> Callable[[], Any]:
    query, key, value, table, _ = inputs
    row = [_in_a_row(pages, table) for pages in (key, value)]
    return lambda: _attended(query, *row)


def _flashinfer(tensor_cores: bool) -> Peer:
    def prepare(inputs: Tensors) -> Callable[[], Any]:
        query, key, value, table, lengths = inputs
        return paged_decode(query, (key, value), table, lengths.tolist(), tensor_cores=tensor_cores)

    return prepare


def _reference(inputs: Tensors) -> Tensors:
    """The whole output, one sequence after the other."""
    import torch

    query, key, value, table, _ = inputs
    outputs = []
    for b in range(BATCH):
        rows = [_in_a_row(pages, table[b : b + 1]).double() for pages in (key, value)]
        grouped = query[b : b + 1].double().reshape(1, KV_HEADS, -1, WIDTH)
        scores = grouped @ rows[0].transpose(2, 3) * WIDTH**-0.5
        outputs.append((torch.softmax(scores, -1) @ rows[1]).reshape(1, HEADS, 1, WIDTH))
    return [torch.cat(outputs)]

"""Operators of the domain ``effcompile`` as functions of PyTorch tensors.

In an export each is one node; everywhere else PyTorch computes the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from effcompile.export import custom_op
from schedules.integer_exponential import (
    POWER_OF_TWO,
    IntegerExponential,
    integer_exponential,
)
from schedules.integer_softmax_problem import CODES, DEFAULTS, DEFERRED, Widths, widths_of
from schedules.workload import Attribute


def integer_softmax(x: Any, **attrs: Attribute) -> Any:
    """Softmax over the last axis in integers alone.

    Args:
        x: Scores: floating point in nats, minus infinity where masked, or int8 or int32 in codes.
        attrs: Names and defaults are those of ``schedules.integer_softmax_problem.DEFAULTS``.

    Returns:
        Integer parts (uint8 or uint16), fractions in the dtype of ``x``, or with
        ``output="deferred"`` exponentials and their sums, which only ONNX files can ask for.

    Raises:
        ValueError: An attribute is unknown or out of range, or asks for two outputs.
    """
    if unknown := sorted(set(attrs) - set(DEFAULTS)):
        raise ValueError(f"unknown {', '.join(unknown)}: expected {', '.join(DEFAULTS)}")
    known = {**DEFAULTS, **attrs}
    if known["output"] == DEFERRED:
        raise ValueError("output 'deferred' has two outputs; in PyTorch take codes or shares")
    eager = partial(_parts, exponential=integer_exponential(known), widths=widths_of(known))
    encoded = {k: int(v) if isinstance(v, bool) else v for k, v in known.items()}
    return custom_op("IntegerSoftmax", (x,), eager=eager, attrs=encoded)


def _parts(x: Any, *, exponential: IntegerExponential, widths: Widths) -> Any:
    import torch

    raised = integer_exponentials(x, exponential)
    total = raised.long().sum(-1, keepdim=True).clamp_max((1 << widths.sum_bits) - 1)
    parts = (raised.long() * 2**widths.output_bits) // total.clamp_min(1)
    parts = parts.clamp_max((1 << widths.output_bits) - 1)
    if widths.output == CODES:
        return parts.to(getattr(torch, widths.code_dtype))
    shares = parts.float() * 2.0**-widths.output_bits
    return shares.to(x.dtype if x.is_floating_point() else torch.float32)


def integer_exponentials(x: Any, exponential: IntegerExponential) -> Any:
    """The integer exponential of every score, int32; see ``schedules.integer_exponential``.

    Shifts are written as products and divisions, which every exporter knows.
    """
    import torch

    if x.is_floating_point():
        wide = x.float()
        near = (wide.amax(-1, keepdim=True) - wide).clamp_max(exponential.limit)
        u = (near * (1 / exponential.step)).nan_to_num(0.0).round().int()
    else:
        away = x.amax(-1, keepdim=True).long() - x.long()
        u = away.clamp_max(exponential.largest_code).int()
    if exponential.form == POWER_OF_TWO:
        table = torch.tensor(exponential.fractions, dtype=torch.int32, device=x.device)
        q, raised = u // exponential.octave, table[(u % exponential.octave).long()]
    else:
        q = u * exponential.barrett // 4**exponential.score_bits
        raised = (exponential.shift - (u - q * exponential.octave)) ** 2 + exponential.offset
    powers = torch.tensor([1 << i for i in range(32)], dtype=torch.int64, device=x.device)
    value = (raised.long() * 2**exponential.guard_bits // powers[q.clamp_max(31).long()]).int()
    if exponential.clips_to_zero:
        value = value.masked_fill(u == exponential.largest_code, 0)
    return value.masked_fill(x == -torch.inf, 0) if x.is_floating_point() else value


def frame_causal_attention(
    query: Any, key: Any, value: Any, frame_lengths: Sequence[int], *, scale: float | None = None
) -> Any:
    """Attention in which a query sees keys of its own and of earlier frames.

    Args:
        query: Shape (batch, heads, tokens, width), the last tokens of the keys or all of them.
        key: Shape (batch, key heads, tokens, width).
        value: Shape (batch, key heads, tokens, value width).
        frame_lengths: Tokens of every frame of the keys, in order.
        scale: Multiplies the scores; ``None`` means one over the root of the width.
    """
    lengths = [int(length) for length in frame_lengths]

    def eager(query: Any, key: Any, value: Any) -> Any:
        import torch

        frame = torch.tensor([f for f, n in enumerate(lengths) for _ in range(n)])
        own = frame[len(frame) - query.shape[2] :]
        seen = (frame[None, :] <= own[:, None]).to(query.device)
        return _attended(query, key, value, seen, scale)

    attrs = {"frame_lengths": lengths, **({} if scale is None else {"scale": float(scale)})}
    return custom_op("FrameCausalAttention", (query, key, value), eager=eager, attrs=attrs)


def block_sparse_attention(
    query: Any, key: Any, value: Any, blocks: Any, *, block: int = 64, scale: float | None = None
) -> Any:
    """Attention between blocks of tokens.

    Args:
        query: Shape (batch, heads, tokens, width).
        key: Shape (batch, key heads, tokens, width).
        value: Shape (batch, key heads, tokens, value width).
        blocks: bool, (batch or 1, heads or 1, row blocks, key blocks), true where rows of a block
            see its keys. Rows that see nothing give zeros.
        block: Rows and keys of a block, a multiple of 64.
        scale: Multiplies the scores; ``None`` means one over the root of the width.
    """

    def eager(query: Any, key: Any, value: Any, blocks: Any) -> Any:
        fine = blocks.repeat_interleave(block, 2).repeat_interleave(block, 3)
        return _attended(query, key, value, fine[..., : query.shape[2], : key.shape[2]], scale)

    attrs = {"block": int(block), **({} if scale is None else {"scale": float(scale)})}
    return custom_op("BlockSparseAttention", (query, key, value, blocks), eager=eager, attrs=attrs)


def packed_attention(
    query: Any,
    key: Any,
    value: Any,
    starts: Any,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> Any:
    """Attention inside sequences that lie one after the other.

    Args:
        query: Shape (batch, heads, tokens, width).
        key: Shape (batch, key heads, tokens, width).
        value: Shape (batch, key heads, tokens, value width).
        starts: int32, (sequences + 1,): first tokens, from 0, and the number of tokens.
        causal: Whether a token sees no later ones.
        scale: Multiplies the scores; ``None`` means one over the root of the width.
    """

    def eager(query: Any, key: Any, value: Any, starts: Any) -> Any:
        import torch

        token = torch.arange(query.shape[2], device=query.device)
        sequence = (starts[None, :] <= token[:, None]).sum(1)
        seen = sequence[:, None] == sequence[None, :]
        if causal:
            seen = seen & (token[None, :] <= token[:, None])
        return _attended(query, key, value, seen, scale)

    attrs = {"causal": int(causal), **({} if scale is None else {"scale": float(scale)})}
    return custom_op("PackedAttention", (query, key, value, starts), eager=eager, attrs=attrs)


def last_row_importance(query: Any, key: Any, *, scale: float | None = None) -> Any:
    """The attention that the last query pays to every key, by which FrameFusion ranks tokens.

    Args:
        query: Shape (batch, heads, queries, width).
        key: Shape (batch, key heads, keys, width).
        scale: Multiplies the scores; ``None`` means one over the root of the width.

    Returns:
        float32, shape (batch, keys): the mean over query heads of the last query's softmax weights.
    """

    def eager(query: Any, key: Any) -> Any:
        import torch

        wide = key.float().repeat_interleave(query.shape[1] // key.shape[1], 1)
        factor = query.shape[3] ** -0.5 if scale is None else scale
        scores = query[:, :, -1:].float() @ wide.transpose(2, 3) * factor
        return torch.softmax(scores, -1)[:, :, 0].mean(1)

    attrs = {} if scale is None else {"scale": float(scale)}
    return custom_op("LastRowImportance", (query, key), eager=eager, attrs=attrs)


def _attended(query: Any, key: Any, value: Any, seen: Any, scale: float | None) -> Any:
    """Attention under a mask of booleans, in float32; rows that see nothing give zeros."""
    import torch

    group = query.shape[1] // key.shape[1]
    wide_key, wide_value = (x.float().repeat_interleave(group, 1) for x in (key, value))
    factor = query.shape[3] ** -0.5 if scale is None else scale
    scores = (query.float() @ wide_key.transpose(2, 3) * factor).masked_fill(~seen, -torch.inf)
    weights = torch.softmax(scores, -1).masked_fill(~seen, 0.0)
    return (weights @ wide_value).to(query.dtype)


def paged_attention(
    query: Any,
    key_pages: Any,
    value_pages: Any,
    table: Any,
    lengths: Any,
    *,
    scale: float | None = None,
    softcap: float = 0.0,
    window: int = -1,
) -> Any:
    """Attention of the newest tokens of sequences over a cache that lies in pages.

    Key ``j`` of sequence ``b`` is token ``j % page tokens`` of page ``table[b, j // page tokens]``.
    The queries are the last valid tokens, and see what is not behind them.

    Args:
        query: Shape (batch, query heads, query tokens, width).
        key_pages: Shape (pages, key heads, page tokens, width).
        value_pages: Shape (pages, key heads, page tokens, value width).
        table: int32, shape (batch, pages of a sequence).
        lengths: Valid tokens per sequence, the queries' included; int32 or int64, shape (batch,).
        scale: Multiplies the scores; one over the root of the width by default.
        softcap: Scores become ``softcap * tanh(score / softcap)``; 0 leaves them.
        window: Tokens that a query sees, its own included; -1 for all.

    Returns:
        Shape (batch, query heads, query tokens, value width), dtype of ``query``.
    """
    scale = float(query.shape[3]) ** -0.5 if scale is None else scale
    attrs = {"scale": scale, "softcap": softcap, "local_window_size": window}
    return custom_op(
        "PagedAttention",
        (query, key_pages, value_pages, table, lengths),
        eager=partial(_paged_attention, scale=scale, softcap=softcap, window=window),
        attrs=attrs,
    )


def _paged_attention(
    query: Any,
    key_pages: Any,
    value_pages: Any,
    table: Any,
    lengths: Any,
    *,
    scale: float,
    softcap: float,
    window: int,
) -> Any:
    import torch

    n_queries = query.shape[2]
    group = query.shape[1] // key_pages.shape[1]
    key, value = (
        pages[table.long()].transpose(1, 2).flatten(2, 3).repeat_interleave(group, 1).float()
        for pages in (key_pages, value_pages)
    )
    scores = query.float() @ key.transpose(2, 3) * scale
    if softcap:
        scores = torch.tanh(scores / softcap) * softcap
    keys = torch.arange(key.shape[2], device=query.device)
    place = torch.arange(n_queries, device=query.device) - n_queries + lengths[:, None]
    hidden = keys > place[:, :, None]
    if window > 0:
        hidden = hidden | (keys <= place[:, :, None] - window)
    scores = scores.masked_fill(hidden[:, None], -torch.inf)
    return (torch.softmax(scores, -1).nan_to_num(0.0) @ value).to(query.dtype)

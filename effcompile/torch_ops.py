"""Operators of the domain ``effcompile`` as functions of PyTorch tensors.

In an export each is one node; everywhere else PyTorch computes the same numbers.
"""

from __future__ import annotations

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

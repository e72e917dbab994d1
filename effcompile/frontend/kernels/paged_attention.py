"""Attention over a cache whose keys and values lie in pages.

Key ``j`` of sequence ``b`` is token ``j % page tokens`` of page ``table[b, j // page tokens]``.
"""

from __future__ import annotations

from typing import Any

from effcompile.frontend.kernels.attention import attended, rule_attrs
from effcompile.frontend.kernels.attention_rule import AttentionRule
from effcompile.frontend.kernels.marking import marked_call, type_of
from schedules.attention_decode_problem import PAGED_OP


def paged_attention_call(
    builder: Any,
    query: Any,
    pages: tuple[Any, Any],
    table: Any,
    lengths: Any,
    *,
    rule: AttentionRule,
) -> Any:
    """Paged attention as one function.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        query: Shape (batch, query heads, query tokens, width).
        pages: Keys and values, shape (pages, key heads, page tokens, width) each; the widths
            may differ.
        table: int32, shape (batch, pages of a sequence); entries behind the valid tokens may
            be anything.
        lengths: Valid tokens per sequence, integers, shape (batch,).
        rule: Scale, causality, windows.

    Returns:
        Shape (batch, query heads, query tokens, value width), dtype of ``query``.
    """
    width = type_of(query)[0][3]
    scale = float(width) ** -0.5 if rule.scale is None else rule.scale

    def definition(q: Any, k: Any, v: Any, of_page: Any, valid: Any) -> Any:
        key, value = in_a_row(k, of_page, "keys"), in_a_row(v, of_page, "values")
        return attended((q, key, value), valid, rule, scale)

    attrs = rule_attrs(rule, scale) | {"mask": "none", "lengths": True}
    inputs = [query, *pages, table, lengths]
    return marked_call(builder, definition, inputs, op=PAGED_OP, attrs=attrs)


def in_a_row(pages: Any, table: Any, name: str) -> Any:
    """The pages of each sequence one after the other, in tensor expressions."""
    from tvm import te, tirx

    n_pages, heads, tokens, width = pages.shape
    batch, n_in_row = table.shape
    last = tirx.const(int(n_pages) - 1, "int32")

    def token(b: Any, h: Any, j: Any, d: Any) -> Any:
        page = te.max(tirx.const(0, "int32"), te.min(table[b, j // tokens], last))
        return pages[page, h, j % tokens, d]

    return te.compute((batch, heads, n_in_row * tokens, width), token, name=f"paged_{name}")

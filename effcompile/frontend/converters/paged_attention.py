"""``effcompile::PagedAttention``: the newest tokens of sequences whose cache lies in pages.

Inputs query (batch, heads, tokens, width), key and value pages (pages, key heads, page tokens,
width), block table (batch, pages of a sequence) int32, lengths (batch,) int32 or int64; attributes
``scale`` (one over the root of the width), ``softcap`` (0 for none) and ``local_window_size`` (-1
for all). As in ``GroupQueryAttention``, the queries are the last valid tokens, see what is not
behind them, and a window includes the query's own token; lengths count them.
"""

from __future__ import annotations

from typing import Any

from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.kernels.attention_rule import AttentionRule
from effcompile.frontend.kernels.marking import type_of
from effcompile.frontend.kernels.paged_attention import paged_attention_call

LENGTH_DTYPES = ("int32", "int64")


@converter("PagedAttention", domain="effcompile")
def paged_attention(node: Node) -> Any:
    """One function; keys and values are not copied."""
    query, key, value, table, lengths = (node.required(index) for index in range(5))
    _check([type_of(x)[0] for x in (query, key, value)], type_of(table), type_of(lengths))
    scale = float(node.attrs.get("scale", 0.0))
    if scale < 0:
        raise ValueError(f"scale is {scale}, expected a positive number, or none")
    window, softcap = int(node.attrs.get("local_window_size", -1)), _softcap(node)
    if window == 0 or window < -1:
        raise ValueError(f"local_window_size is {window}, expected tokens, or -1 for all")
    rule = AttentionRule(
        scale=scale or None,
        causal=True,
        at_end=True,
        softcap=softcap,
        window_left=window - 1 if window > 0 else -1,
    )
    return paged_attention_call(node.builder, query, (key, value), table, lengths, rule=rule)


def _softcap(node: Node) -> float:
    softcap = float(node.attrs.get("softcap", 0.0))
    if not softcap >= 0:
        raise ValueError(f"softcap is {softcap}, expected a positive number, or 0 for none")
    return softcap


def _check(
    shapes: list[list[Any]], table: tuple[list[Any], str], lengths: tuple[list[Any], str]
) -> None:
    if any(len(shape) != 4 for shape in shapes):
        raise ValueError(
            "query must be (batch, heads, tokens, width), key and value (pages, key heads, page "
            f"tokens, width), found {shapes}"
        )
    query, key, value = shapes
    if not all(isinstance(extent, int) for shape in (*shapes, table[0]) for extent in shape):
        raise ValueError(f"its inputs have open dimensions {shapes}: fix them with --shape")
    if key[:3] != value[:3] or query[3] != key[3] or query[1] % key[1]:
        raise ValueError(
            "key and value pages must match, queries be as wide as keys, and key heads divide "
            f"query heads: found {shapes}"
        )
    if len(table[0]) != 2 or table[0][0] != query[0] or table[1] != "int32":
        raise ValueError(
            f"the block table must be int32 of shape ({query[0]}, pages of a sequence), found "
            f"{table[1]} {table[0]}"
        )
    if lengths[0] != [query[0]] or lengths[1] not in LENGTH_DTYPES:
        raise ValueError(
            f"lengths must be {' or '.join(LENGTH_DTYPES)} of shape ({query[0]},), found "
            f"{lengths[1]} {lengths[0]}"
        )

"""``effcompile::HeadwiseAttention``: every head full, an arrow, or skipped.

Inputs query, key, value (batch, heads, tokens, width), modes (query heads, 2) int32 [, cache of the
result's shape]; attributes ``text_tokens``, ``order`` ("image_first" or "text_first"), ``scale``
(optional). A row of modes is a kind (0 full, 1 arrow, 2 skip) and a half-width in tokens. Modes
that are an initialiser are known to the tuner; others may change with every call.
Meaning: see ``schedules/headwise_problem.py``.
"""

from __future__ import annotations

from typing import Any

from effcompile.frontend.constants import constant_array
from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.kernels.headwise_attention import HeadwiseRule, headwise_attention_call
from effcompile.frontend.kernels.marking import type_of
from schedules.headwise_problem import GRAIN, Mode

ORDERS = ("image_first", "text_first")


@converter("HeadwiseAttention", domain="effcompile")
def headwise_attention(node: Node) -> Any:
    """One launch for all heads."""
    query, key, value, modes = (node.required(index) for index in range(4))
    cache = node.input(4)
    order = str(node.attrs.get("order", ORDERS[0]))
    text_tokens, scale = int(node.attrs.get("text_tokens", 0)), node.attrs.get("scale")
    _check(type_of(query)[0], [type_of(x)[0] for x in (key, value)], type_of(modes))
    tokens = type_of(query)[0][2]
    if order not in ORDERS:
        raise ValueError(f"order is {order!r}, expected one of {ORDERS}")
    if int(node.attrs.get("granularity", GRAIN)) != GRAIN:
        raise ValueError(f"granularity is {node.attrs['granularity']}, only {GRAIN} is defined")
    if not 0 <= text_tokens <= tokens:
        raise ValueError(f"text_tokens is {text_tokens}, expected 0 to {tokens}")
    if scale is not None and float(scale) <= 0:
        raise ValueError(f"scale is {scale}, expected a positive number")
    rule = HeadwiseRule(
        text_tokens=text_tokens,
        text_first=order == "text_first",
        scale=None if scale is None else float(scale),
        modes=_known(modes),
    )
    return headwise_attention_call(node.builder, query, key, value, modes, rule=rule, cache=cache)


def _check(query: list[Any], others: list[list[Any]], modes: tuple[list[Any], str]) -> None:
    if any(len(shape) != 4 for shape in (query, *others)):
        raise ValueError(
            f"query, key and value must be (batch, heads, tokens, width), found {query}, {others}"
        )
    if not all(isinstance(extent, int) for shape in (query, *others) for extent in shape):
        raise ValueError(f"its input has open dimensions {query}: fix them with --shape")
    if any(shape[2] != query[2] for shape in others) or query[1] % others[0][1]:
        raise ValueError(
            "queries and keys must be the same tokens, and key heads divide query heads: found "
            f"{query}, {others}"
        )
    if modes != ([query[1], 2], "int32"):
        raise ValueError(f"modes must be int32 of shape ({query[1]}, 2), found {modes}")


def _known(modes: Any) -> tuple[Mode, ...]:
    stored = constant_array(modes)
    if stored is None:
        return ()
    rows = tuple((int(kind), int(width)) for kind, width in stored)
    wrong = [row for row in rows if row[0] not in (0, 1, 2) or row[1] < 0]
    if wrong:
        raise ValueError(
            f"modes hold {wrong[0]}: expected kind 0 (full), 1 (arrow) or 2 (skip) and a "
            "half-width of at least 0 tokens"
        )
    return rows

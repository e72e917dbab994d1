"""Scaled dot-product attention with grouped heads, masks and valid lengths.

Layout (batch, heads, tokens, head width) for queries, keys and values. Query head ``h``
reads key head ``h // (query heads / key heads)``. A row in which nothing may be attended
gives zeros. Masks are added in float32, as PyTorch's scaled_dot_product_attention does, and a
finite number hides a key only from rows with higher scores: where all keys have the least float32
or bfloat16, as padding of exported models has, the result is the mean of the values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from effcompile.frontend.kernels.attention_check import check_attention
from effcompile.frontend.kernels.attention_rule import AttentionRule
from effcompile.frontend.kernels.grouped_heads import before_repeats
from effcompile.frontend.kernels.marking import marked_call, type_of
from effcompile.frontend.kernels.mask_blocks import (
    MaskBlocks,
    broadcast_index,
    constant_mask,
    in_blocks,
)
from effcompile.frontend.kernels.scaled_dot_product import Index, scaled_dot_product
from schedules.masked_problem import PACKED, TILES
from schedules.workload import Attribute


def attention_call(
    builder: Any,
    query: Any,
    key: Any,
    value: Any,
    *,
    rule: AttentionRule,
    mask: Any = None,
    lengths: Any = None,
    tiles: MaskBlocks | None = None,
    starts: Any = None,
) -> Any:
    """Attention as one function.

    A constant mask of booleans becomes part of the rule, or blocks; keys and values that were
    repeated for the heads of a group are read before that.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        query: Shape (batch, query heads, query tokens, width).
        key: Shape (batch, key heads, key tokens, width).
        value: Shape (batch, key heads, key tokens, value width).
        rule: Scale, causality, windows.
        mask: Broadcasts to (batch, query heads, query tokens, key tokens), rank 4; added to
            the scores, or true where a key may be attended.
        lengths: Valid key tokens per batch row, integers, shape (batch,).
        tiles: The mask as blocks, instead of ``mask``.
        starts: First tokens of packed sequences and the end of the last one, int32; queries and
            keys are the same tokens, and tokens of a sequence see each other only.

    Returns:
        Shape (batch, query heads, query tokens, value width), dtype of ``query``.

    Raises:
        ValueError: The operands do not belong together.
    """
    check_attention(query, key, value, rule=rule, mask=mask, lengths=lengths)
    key, value = before_repeats(builder, key, value)
    width = type_of(query)[0][3]
    scale = float(width) ** -0.5 if rule.scale is None else rule.scale
    if tiles is None and mask is not None and lengths is None:
        mask, rule, tiles = constant_mask(mask, rule, query, key)
    has_mask, has_lengths = mask is not None, lengths is not None

    def definition(q: Any, k: Any, v: Any, *rest: Any) -> Any:
        masks = _Masks(
            rest[0] if has_mask else None,
            rest[-1] if has_lengths else None,
            None if tiles is None else (rest[0], rest[1]),
            None if starts is None else _sequences(rest[0], q.shape[2]),
        )
        return _attention((q, k, v), masks, rule, scale)

    inputs = [query, key, value]
    inputs += [] if tiles is None else [tiles.index, tiles.patterns]
    inputs += [extra for extra in (mask, starts, lengths) if extra is not None]
    kind = _mask_kind(mask, tiles, starts)
    attrs = rule_attrs(rule, scale) | {"mask": kind, "lengths": has_lengths}
    if tiles is not None:
        attrs["mask_text"] = tiles.text
    return marked_call(builder, definition, inputs, op="attention", attrs=attrs)


def rule_attrs(rule: AttentionRule, scale: float) -> dict[str, Attribute]:
    """What workloads say of a rule."""
    return {
        "layout": "BHSD",
        "scale": scale,
        "causal": rule.causal,
        "offset": rule.offset,
        "at_end": rule.at_end,
        "softcap": rule.softcap,
        "window_left": rule.window_left,
        "window_right": rule.window_right,
    }


def attended(qkv: tuple[Any, Any, Any], lengths: Any, rule: AttentionRule, scale: float) -> Any:
    """The result of tensors with valid lengths, in tensor expressions."""
    return _attention(qkv, _Masks(None, lengths), rule, scale)


def _mask_kind(mask: Any, tiles: MaskBlocks | None, starts: Any) -> str:
    if tiles is not None:
        return TILES
    if starts is not None:
        return PACKED
    if mask is None:
        return "none"
    return "bool" if type_of(mask)[1] == "bool" else "float"


@dataclass(frozen=True, slots=True)
class _Masks:
    mask: Any
    lengths: Any
    tiles: tuple[Any, Any] | None = None
    sequences: Any = None


def _sequences(starts: Any, n_tokens: Any) -> Any:
    """The packed sequence of every token, counted from 1."""
    from tvm import te, tirx

    s = te.reduce_axis((0, starts.shape[0]), "s")
    one, zero = tirx.const(1, "int32"), tirx.const(0, "int32")
    return te.compute(
        (n_tokens,),
        lambda i: te.sum(tirx.if_then_else(starts[s] <= i.astype("int32"), one, zero), axis=s),
        name="attention_sequences",
    )


def _attention(qkv: tuple[Any, Any, Any], masks: _Masks, rule: AttentionRule, scale: float) -> Any:
    from tvm import te, tirx

    q, mask = qkv[0], masks.mask

    def score(product: Any, index: Index) -> Any:
        result = product * tirx.const(scale, "float32")
        if rule.softcap:
            cap = tirx.const(rule.softcap, "float32")
            result = te.tanh(result / cap) * cap
        if mask is not None and str(mask.dtype) != "bool":
            result = result + mask[broadcast_index(mask, *index)].astype("float32")
        return result

    mixed = scaled_dot_product(
        qkv,
        score=score,
        allowed=lambda index: _allowed(rule, masks, q.shape[2], index),
        name="attention",
    )
    return te.compute(
        mixed.shape, lambda b, h, i, e: mixed[b, h, i, e].astype(q.dtype), name="attention"
    )


def _allowed(rule: AttentionRule, masks: _Masks, n_queries: Any, index: Index) -> Any:
    """Condition under which key ``j`` may be attended, ``None`` if always."""
    b, h, i, j = index
    mask, lengths = masks.mask, masks.lengths
    conditions = []
    if mask is not None and str(mask.dtype) == "bool":
        conditions.append(mask[broadcast_index(mask, b, h, i, j)])
    if masks.tiles is not None:
        conditions.append(in_blocks(*masks.tiles, index))
    if masks.sequences is not None:
        conditions.append(masks.sequences[i] == masks.sequences[j])
    position = i + rule.offset
    if lengths is not None:
        length = lengths[b].astype("int64")
        conditions.append(j < length)
        if rule.at_end:
            position = i + length - n_queries
    if rule.causal:
        conditions.append(j <= position)
    if rule.window_left >= 0:
        conditions.append(j >= position - rule.window_left)
    if rule.window_right >= 0:
        conditions.append(j <= position + rule.window_right)
    if not conditions:
        return None
    from tvm import tirx

    return tirx.all(*conditions)

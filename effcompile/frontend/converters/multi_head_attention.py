"""``MultiHeadAttention`` of com.microsoft."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.converters.attention import after_past, attention_mask
from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.converters.tensors import (
    join_heads,
    outputs,
    slice_axis,
    split_heads,
)
from effcompile.frontend.kernels.attention import attention_call
from effcompile.frontend.kernels.attention_rule import AttentionRule
from effcompile.frontend.kernels.marking import type_of


@converter("MultiHeadAttention", domain="com.microsoft")
def multi_head_attention(node: Node) -> Any:
    """Attention with separate or packed projections, padding mask, bias and cache."""
    query, key, value = _projections(node)
    key, value, n_past = after_past(node, 6, key, value)
    mask, lengths = _padding(node, key)
    mixed = node.emit(
        attention_call(
            node.builder,
            query,
            key,
            value,
            rule=AttentionRule(
                scale=float(node.attrs.get("scale", 0.0)) or None,
                causal=bool(node.attrs.get("unidirectional", 0)),
                offset=n_past,
            ),
            mask=mask,
            lengths=lengths,
        )
    )
    return outputs(node, join_heads(node, mixed), key, value)


def _projections(node: Node) -> tuple[Any, Any, Any]:
    """Query, key and value as (batch, heads, tokens, width), biases added."""
    from tvm import relax

    n_heads = int(node.attrs["num_heads"])
    parts = _unpacked(node, n_heads)
    bias = node.input(3)
    begin = 0
    heads = []
    for part in parts:
        if len(type_of(part)[0]) == 4:  # keys or values that are split into heads already
            heads.append(part)
            continue
        width = int(type_of(part)[0][2])
        if bias is not None:
            section = slice_axis(node, bias, 0, begin, begin + width)
            part = node.emit(relax.op.add(part, section))  # noqa: PLW2901
        begin += width
        heads.append(split_heads(node, part, n_heads))
    return heads[0], heads[1], heads[2]


def _unpacked(node: Node, n_heads: int) -> list[Any]:
    from tvm import relax

    query, key = node.required(0), node.input(1)
    shape = type_of(query)[0]
    if len(shape) == 5:  # (batch, tokens, heads, 3, width)
        flat = (shape[0], shape[1], n_heads * shape[4])
        chosen = [slice_axis(node, query, 3, index, index + 1) for index in range(3)]
        return [node.emit(relax.op.reshape(part, flat)) for part in chosen]
    if key is not None and len(type_of(key)[0]) == 5:  # (batch, tokens, heads, 2, width)
        kv_shape = type_of(key)[0]
        flat = (kv_shape[0], kv_shape[1], n_heads * kv_shape[4])
        chosen = [slice_axis(node, key, 3, index, index + 1) for index in range(2)]
        return [query, *(node.emit(relax.op.reshape(part, flat)) for part in chosen)]
    return [query, node.required(1), node.required(2)]


def _padding(node: Node, key: Any) -> tuple[Any, Any]:
    """The mask and the valid lengths that stand for padding mask and bias."""
    from tvm import relax

    padding, bias = node.input(4), attention_mask(node, node.input(5), key)
    if padding is None:
        return bias, None
    shape = type_of(padding)[0]
    if len(shape) == 1:
        if shape[0] != type_of(key)[0][0]:
            raise ValueError("a key_padding_mask of cumulative lengths is not supported")
        return bias, padding
    if len(shape) != 2:
        raise ValueError(f"key_padding_mask has rank {len(shape)}, expected 1 or 2")
    keep = node.emit(relax.op.astype(padding, "bool"))
    keep = node.emit(relax.op.reshape(keep, (shape[0], 1, 1, shape[1])))
    if bias is None:
        return keep, None
    dtype = type_of(bias)[1]
    lowest = relax.const(float(node.attrs.get("mask_filter_value", -10000.0)), dtype)
    extra = node.emit(relax.op.where(keep, relax.const(0, dtype), lowest))
    return node.emit(relax.op.add(bias, extra)), None

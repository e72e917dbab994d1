"""``GroupQueryAttention`` and ``MultiHeadAttention`` of com.microsoft."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.converters.attention import attention_mask
from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.converters.rotary import rotate
from effcompile.frontend.converters.tensors import (
    concat,
    join_heads,
    outputs,
    slice_axis,
    split_heads,
)
from effcompile.frontend.kernels.attention import attention_call
from effcompile.frontend.kernels.attention_rule import AttentionRule
from effcompile.frontend.kernels.marking import type_of


@converter("GroupQueryAttention", domain="com.microsoft")
def group_query_attention(node: Node) -> Any:
    """Causal attention over a cache whose rows have their own valid lengths.

    The present cache is the past one extended by the new tokens, which stand directly
    after the valid part of each row.
    """
    for index, name in ((9, "position_ids"), (11, "head_sink")):
        if node.input(index) is not None:
            raise ValueError(f"input {name} is not supported")
    query, key, value = _query_key_value(node)
    lengths = _valid_lengths(node)
    if node.attrs.get("do_rotary"):
        query, key = _rotated(node, query, lengths), _rotated(node, key, lengths)
    if node.input(3) is not None:
        key = _appended(node, node.required(3), key, lengths)
        value = _appended(node, node.required(4), value, lengths)
    mixed = node.emit(
        attention_call(
            node.builder,
            query,
            key,
            value,
            rule=_causal_rule(node),
            mask=attention_mask(node, node.input(10), key),
            lengths=lengths,
        )
    )
    return outputs(node, join_heads(node, mixed), key, value)


def _causal_rule(node: Node) -> AttentionRule:
    # A window of n tokens includes the query's own.
    window = int(node.attrs.get("local_window_size", -1))
    if node.attrs.get("smooth_softmax"):
        raise ValueError("smooth_softmax is not supported")
    return AttentionRule(
        scale=float(node.attrs.get("scale", 0.0)) or None,
        causal=True,
        at_end=True,
        softcap=float(node.attrs.get("softcap", 0.0)),
        window_left=window - 1 if window > 0 else -1,
    )


def _query_key_value(node: Node) -> tuple[Any, Any, Any]:
    n_heads, n_kv_heads = int(node.attrs["num_heads"]), int(node.attrs["kv_num_heads"])
    query, key, value = node.required(0), node.input(1), node.input(2)
    if key is None:
        width = int(type_of(query)[0][2]) // (n_heads + 2 * n_kv_heads)
        ends = [n_heads * width, (n_heads + n_kv_heads) * width, int(type_of(query)[0][2])]
        packed = query
        query = slice_axis(node, packed, 2, 0, ends[0])
        key = slice_axis(node, packed, 2, ends[0], ends[1])
        value = slice_axis(node, packed, 2, ends[1], ends[2])
    return (
        split_heads(node, query, n_heads),
        split_heads(node, key, n_kv_heads),
        split_heads(node, value, n_kv_heads),
    )


def _valid_lengths(node: Node) -> Any:
    """Tokens per row after this call: the operator stores the last index."""
    from tvm import relax

    last = node.required(5)
    flat = node.emit(relax.op.reshape(last, (type_of(node.required(0))[0][0],)))
    return node.emit(relax.op.add(flat, relax.const(1, type_of(last)[1])))


def _rotated(node: Node, x: Any, lengths: Any) -> Any:
    positions = node.emit(
        node.builder.call_te(
            _positions_of(type_of(x)[0][2]), lengths, primfunc_name_hint="positions"
        )
    )
    return rotate(
        node,
        x,
        node.required(7),
        node.required(8),
        positions,
        interleaved=bool(node.attrs.get("rotary_interleaved", 0)),
        n_rotated=2 * int(type_of(node.required(7))[0][1]),
    )


def _positions_of(n_tokens: Any) -> Any:
    def definition(lengths: Any) -> Any:
        from tvm import te

        return te.compute(
            (lengths.shape[0], n_tokens),
            lambda b, s: lengths[b].astype("int64") - n_tokens + s,
            name="positions",
        )

    return definition


def _appended(node: Node, past: Any, new: Any, lengths: Any) -> Any:
    """The cache with the new tokens after the valid part of each row."""

    def definition(old: Any, fresh: Any, valid: Any) -> Any:
        from tvm import te, tirx

        batch, n_heads, n_past, width = old.shape
        n_new = fresh.shape[2]

        def value(b: Any, h: Any, s: Any, d: Any) -> Any:
            start = valid[b].astype("int64") - n_new
            is_new = tirx.all(s >= start, s < start + n_new)
            kept = tirx.if_then_else(s < n_past, old[b, h, s, d], tirx.const(0, old.dtype))
            return tirx.if_then_else(is_new, fresh[b, h, s - start, d], kept)

        return te.compute((batch, n_heads, n_past + n_new, width), value, name="append_tokens")

    call = node.builder.call_te(definition, past, new, lengths, primfunc_name_hint="append_tokens")
    return node.emit(call)


@converter("MultiHeadAttention", domain="com.microsoft")
def multi_head_attention(node: Node) -> Any:
    """Attention with separate or packed projections, padding mask, bias and cache."""
    query, key, value = _projections(node)
    n_past = 0
    if node.input(6) is not None:
        n_past = type_of(node.required(6))[0][2]
        key = concat(node, [node.required(6), key], 2)
        value = concat(node, [node.required(7), value], 2)
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

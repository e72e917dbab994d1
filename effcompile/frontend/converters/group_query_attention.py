"""``GroupQueryAttention`` of com.microsoft."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.converters.attention import attention_mask
from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.converters.rotary import rotate
from effcompile.frontend.converters.tensors import (
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

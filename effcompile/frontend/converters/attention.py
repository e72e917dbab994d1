"""ONNX ``Attention`` (opset 23 and later)."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.converters.tensors import (
    concat,
    join_heads,
    outputs,
    split_heads,
    with_rank,
)
from effcompile.frontend.kernels.attention import attention_call
from effcompile.frontend.kernels.attention_rule import AttentionRule
from effcompile.frontend.kernels.marking import type_of


@converter("Attention")
def attention(node: Node) -> Any:
    """Inputs of rank 4, or of rank 3 with head counts; optional mask, cache and lengths."""
    query, key, value = (node.required(index) for index in range(3))
    is_flat = len(type_of(query)[0]) == 3
    if is_flat:
        query = split_heads(node, query, int(node.attrs["q_num_heads"]))
        key = split_heads(node, key, int(node.attrs["kv_num_heads"]))
        value = split_heads(node, value, int(node.attrs["kv_num_heads"]))
    key, value, n_past = after_past(node, 4, key, value)
    mixed = node.emit(
        attention_call(
            node.builder,
            query,
            key,
            value,
            rule=_rule(node, n_past),
            mask=attention_mask(node, node.input(3), key),
            lengths=node.input(6),
        )
    )
    result = join_heads(node, mixed) if is_flat else mixed
    return outputs(node, result, key, value, None)


def _rule(node: Node, n_past: int) -> AttentionRule:
    scale = node.attrs.get("scale")
    return AttentionRule(
        scale=None if scale is None else float(scale),
        causal=bool(node.attrs.get("is_causal", 0)),
        offset=n_past,
        at_end=node.input(6) is not None,
        softcap=float(node.attrs.get("softcap", 0.0)),
        window_left=int(node.attrs.get("left_window_size", -1)),
        window_right=int(node.attrs.get("right_window_size", -1)),
    )


def after_past(node: Node, index: int, key: Any, value: Any) -> tuple[Any, Any, Any]:
    """Keys and values after those of a cache, and how many tokens it holds.

    Args:
        node: Whose inputs ``index`` and ``index + 1`` are keys and values of the cache, if any.
        index: See ``node``.
        key: Shape (batch, heads, tokens, width).
        value: Likewise.
    """
    if node.input(index) is None:
        return key, value, 0
    past_key, past_value = node.required(index), node.required(index + 1)
    n_past = type_of(past_key)[0][2]
    return concat(node, [past_key, key], 2), concat(node, [past_value, value], 2), n_past


def attention_mask(node: Node, mask: Any, key: Any) -> Any:
    """A mask of rank 4 that covers every key.

    Raises:
        ValueError: The mask covers fewer keys than there are.
    """
    if mask is None:
        return None
    n_masked, n_keys = type_of(mask)[0][-1], type_of(key)[0][2]
    if n_masked not in (n_keys, 1):
        raise ValueError(f"the mask covers {n_masked} keys, and there are {n_keys}")
    return with_rank(node, mask, 4)

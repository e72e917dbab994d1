"""Rotary position embedding, of ONNX (opset 23) and of com.microsoft."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.converters.tensors import join_heads, split_heads
from effcompile.frontend.kernels.marking import type_of


@converter("RotaryEmbedding")
def rotary_embedding(node: Node) -> Any:
    """Inputs: x, cosines, sines, optional positions."""
    x, cosines, sines = (node.required(index) for index in range(3))
    return _on_heads(node, x, cosines, sines, node.input(3))


@converter("RotaryEmbedding", domain="com.microsoft")
def rotary_embedding_contrib(node: Node) -> Any:
    """Inputs: x, positions (one start, or one per token), cosines, sines."""
    if node.attrs.get("is_packed_batching"):
        raise ValueError("is_packed_batching is not supported")
    x, positions, cosines, sines = (node.required(index) for index in range(4))
    return _on_heads(node, x, cosines, sines, positions)


def _on_heads(node: Node, x: Any, cosines: Any, sines: Any, positions: Any) -> Any:
    is_flat = len(type_of(x)[0]) == 3
    if is_flat:
        x = split_heads(node, x, _head_count(node, x, cosines))
    turned = rotate(
        node,
        x,
        cosines,
        sines,
        positions,
        interleaved=bool(node.attrs.get("interleaved", 0)),
        n_rotated=int(node.attrs.get("rotary_embedding_dim", 0)),
    )
    return join_heads(node, turned) if is_flat else turned


def _head_count(node: Node, x: Any, cosines: Any) -> int:
    n_heads = int(node.attrs.get("num_heads", 0))
    if n_heads:
        return n_heads
    # Without a count, heads are as wide as the caches say.
    return int(type_of(x)[0][2]) // (2 * int(type_of(cosines)[0][-1]))


def rotate(
    node: Node,
    x: Any,
    cosines: Any,
    sines: Any,
    positions: Any,
    *,
    interleaved: bool,
    n_rotated: int = 0,
) -> Any:
    """Turn pairs of features by the angle of their token's position.

    Args:
        node: Emits the call.
        x: Shape (batch, heads, tokens, width).
        cosines: Shape (positions, pairs); (batch, tokens, pairs) if ``positions`` is ``None``.
        sines: Likewise.
        positions: Integers of shape (batch, tokens), or one start for all, shape (1,).
        interleaved: Pairs are neighbours, instead of half the rotated width apart.
        n_rotated: Leading features that turn; 0 means all.
    """
    n_turned = n_rotated or int(type_of(x)[0][3])
    half = n_turned // 2
    inputs = [x, cosines, sines] + ([] if positions is None else [positions])

    def definition(data: Any, cos: Any, sin: Any, *rest: Any) -> Any:
        from tvm import te, tirx

        def angle(cache: Any, b: Any, s: Any, pair: Any) -> Any:
            if not rest:
                return cache[b, s, pair].astype("float32")
            token = rest[0][b, s] if len(rest[0].shape) == 2 else rest[0][0] + s
            return cache[token, pair].astype("float32")

        def value(b: Any, h: Any, s: Any, d: Any) -> Any:
            distance = 1 if interleaved else half
            if interleaved:
                pair, is_first = d // 2, d % 2 == 0
            else:
                pair, is_first = d % half, d < half
            after, before = data[b, h, s, d + distance], data[b, h, s, d - distance]
            this = data[b, h, s, d].astype("float32")
            other = tirx.if_then_else(is_first, after, before).astype("float32")
            sign = tirx.Select(is_first, tirx.const(-1, "float32"), tirx.const(1, "float32"))
            turned = angle(cos, b, s, pair) * this + sign * angle(sin, b, s, pair) * other
            return turned.astype(data.dtype)

        def partial(b: Any, h: Any, s: Any, d: Any) -> Any:
            return tirx.if_then_else(d < n_turned, value(b, h, s, d), data[b, h, s, d])

        whole = n_turned == int(data.shape[3])
        return te.compute(data.shape, value if whole else partial, name="rotary_embedding")

    call = node.builder.call_te(definition, *inputs, primfunc_name_hint="rotary_embedding")
    return node.emit(call)

"""Operators of the domain ``effcompile``, which modules emit themselves."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.kernels.marking import type_of
from effcompile.frontend.kernels.softmax import softmax_call


@converter("Softmax", domain="effcompile")
def softmax(node: Node) -> Any:
    """``softmax(scale * x)`` along ``axis``, or its logarithm if ``log`` is set."""
    from tvm import relax

    x = node.required(0)
    rank = len(type_of(x)[0])
    axis = int(node.attrs.get("axis", -1)) % rank
    order = [*(i for i in range(rank) if i != axis), axis]
    is_last = axis == rank - 1
    rows = x if is_last else node.emit(relax.op.permute_dims(x, order))
    result = node.emit(
        softmax_call(
            node.builder,
            rows,
            log=bool(node.attrs.get("log", 0)),
            scale=float(node.attrs.get("scale", 1.0)),
        )
    )
    if is_last:
        return result
    return relax.op.permute_dims(result, [order.index(i) for i in range(rank)])

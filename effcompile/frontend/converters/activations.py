"""Activations that the stock importer does not know."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.kernels.marking import type_of


@converter("Swish")
def swish(node: Node) -> Any:
    """``x * sigmoid(alpha * x)`` (opset 24)."""
    from tvm import relax

    x = node.required(0)
    alpha = float(node.attrs.get("alpha", 1.0))
    if alpha == 1.0:
        return relax.op.nn.silu(x)
    scaled = node.emit(relax.op.multiply(x, relax.const(alpha, type_of(x)[1])))
    return relax.op.multiply(x, node.emit(relax.op.sigmoid(scaled)))

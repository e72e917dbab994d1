"""``DequantizeLinear`` with one scale, one per channel, or one per block."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.kernels.marking import type_of


@converter("DequantizeLinear")
def dequantize_linear(node: Node) -> Any:
    """``(x - zero_point) * scale`` in the dtype of the scale."""
    from tvm import relax

    x, scale = node.required(0), node.required(1)
    dtype = type_of(scale)[1]
    wide = node.emit(relax.op.astype(x, dtype))
    zero = node.input(2)
    if zero is not None:
        zero = _spread(node, node.emit(relax.op.astype(zero, dtype)), x)
        wide = node.emit(relax.op.subtract(wide, zero))
    return relax.op.multiply(wide, _spread(node, scale, x))


def _spread(node: Node, parameter: Any, x: Any) -> Any:
    """The parameter in a shape that broadcasts to ``x``."""
    from tvm import relax

    shape, rank = type_of(parameter)[0], len(type_of(x)[0])
    axis = int(node.attrs.get("axis", 1)) % max(rank, 1)
    block = int(node.attrs.get("block_size", 0))
    if block and shape[axis] == 1:
        return parameter
    if block:
        repeated = node.emit(relax.op.repeat(parameter, block, axis))
        extent = type_of(x)[0][axis]
        if type_of(repeated)[0][axis] == extent:
            return repeated
        return node.emit(relax.op.strided_slice(repeated, [axis], [0], [extent]))
    if not shape or shape == [1]:
        return node.emit(relax.op.reshape(parameter, ()))
    aligned = [1] * rank
    aligned[axis] = shape[0]
    return node.emit(relax.op.reshape(parameter, tuple(aligned)))

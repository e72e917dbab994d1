"""``MatMulNBits`` of com.microsoft, and the same for quantised products found in graphs."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.kernels.dequant_matmul import Quantisation, dequant_matmul_call
from effcompile.frontend.kernels.marking import type_of

SUPPORTED_BITS = (2, 4, 8)


@converter("MatMulNBits", domain="com.microsoft")
@converter("DequantMatMul", domain="effcompile")
def matmul_nbits(node: Node) -> Any:
    """Inputs: x, packed, scales, optional zero points, optional group index, optional bias."""
    from tvm import relax

    if node.input(4) is not None:
        raise ValueError("input g_idx (columns in another order) is not supported")
    how = _quantisation(node)
    n_blocks = -(-how.depth // how.block)
    scales = node.emit(relax.op.reshape(node.required(2), (how.n_columns, n_blocks)))
    return dequant_matmul_call(
        node.builder,
        node.required(0),
        node.required(1),
        scales,
        quantisation=how,
        zero_points=_zero_points(node, how, n_blocks),
        bias=node.input(5),
    )


def _quantisation(node: Node) -> Quantisation:
    bits = int(node.attrs.get("bits", 4))
    if bits not in SUPPORTED_BITS:
        raise ValueError(f"bits is {bits}, expected one of {SUPPORTED_BITS}")
    zeros = node.input(3)
    return Quantisation(
        bits=bits,
        block=int(node.attrs["block_size"]),
        depth=int(node.attrs["K"]),
        n_columns=int(node.attrs["N"]),
        packed_zero_points=zeros is None or type_of(zeros)[1] == "uint8",
    )


def _zero_points(node: Node, how: Quantisation, n_blocks: int) -> Any:
    from tvm import relax

    zeros = node.input(3)
    if zeros is None:
        return None
    width = -(-n_blocks * how.bits // 8) if how.packed_zero_points else n_blocks
    return node.emit(relax.op.reshape(zeros, (how.n_columns, width)))

"""``MatMulNBits`` of com.microsoft, and the same for quantised products found in graphs.

Stored weights are packed again for tensor cores; those that change at run time, and groups that
the packed form cannot follow, are unpacked as they are stored.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from effcompile.frontend.constants import constant_array
from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.kernels.dequant_matmul import Quantisation, dequant_matmul_call
from effcompile.frontend.kernels.gemv_dequant import QuantisedMatrix, packed_product, serves
from effcompile.frontend.kernels.marking import type_of
from schedules.packing import unpack_stream

SUPPORTED_BITS = (2, 4, 8)
# Three bits have no place in bytes of their own: the packed form alone serves them.
PACKED_ONLY_BITS = 3


@converter("MatMulNBits", domain="com.microsoft")
@converter("DequantMatMul", domain="effcompile")
def matmul_nbits(node: Node) -> Any:
    """Inputs: x, packed, scales, optional zero points, optional group index, optional bias.

    Those of ``effcompile::DequantMatMul`` may be followed by the scales of an int8 ``x``, one
    element or shape (..., 1).
    """
    from tvm import relax

    if node.input(4) is not None:
        raise ValueError("input g_idx (columns in another order) is not supported")
    how = _quantisation(node)
    _check_sizes(node, how)
    matrix = _stored_matrix(node, how)
    if matrix is not None:
        return packed_product(
            node.builder,
            node.required(0),
            matrix,
            bias=node.input(5),
            x_scales=_x_scales(node),
        )
    if how.bits == PACKED_ONLY_BITS or node.input(6) is not None:
        raise ValueError(
            f"bits is {how.bits}, expected one of {SUPPORTED_BITS} and x of a float dtype, or "
            "stored weights in blocks of a multiple of 32, and static shapes"
        )
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


def _x_scales(node: Node) -> Any:
    """Scales of ``x``, one of all or one per row."""
    scales = node.input(6)
    if scales is None:
        return None
    shape, rows = type_of(scales)[0], [*type_of(node.required(0))[0][:-1], 1]
    if shape != rows and any(extent != 1 for extent in shape):
        raise ValueError(f"scales of x have shape {shape}, expected one element or {rows}")
    return scales


def _quantisation(node: Node) -> Quantisation:
    bits = int(node.attrs.get("bits", 4))
    if bits not in (*SUPPORTED_BITS, PACKED_ONLY_BITS):
        raise ValueError(f"bits is {bits}, expected one of {(*SUPPORTED_BITS, PACKED_ONLY_BITS)}")
    zeros = node.input(3)
    block, depth, n_columns = (int(node.attrs[name]) for name in ("block_size", "K", "N"))
    if min(block, depth, n_columns) < 1:
        raise ValueError(
            f"block_size is {block}, K {depth} and N {n_columns}, expected positive numbers"
        )
    return Quantisation(
        bits=bits,
        block=block,
        depth=depth,
        n_columns=n_columns,
        packed_zero_points=zeros is None or type_of(zeros)[1] == "uint8",
    )


def _check_sizes(node: Node, how: Quantisation) -> None:
    """Whether every input holds what ``K``, ``N``, ``bits`` and ``block_size`` say.

    Raises:
        ValueError: Names the input, with what was found and expected.
    """
    n_blocks = -(-how.depth // how.block)
    points = -(-n_blocks * how.bits // 8) if how.packed_zero_points else n_blocks
    expected = {
        "packed weights (bytes)": (1, how.n_columns * n_blocks * -(-how.block * how.bits // 8)),
        "scales": (2, how.n_columns * n_blocks),
        "zero points": (3, how.n_columns * points),
        "bias": (5, how.n_columns),
    }
    for name, (place, n_elements) in expected.items():
        shape = [] if node.input(place) is None else type_of(node.input(place))[0]
        if shape and all(isinstance(e, int) for e in shape) and prod(shape) != n_elements:
            raise ValueError(f"{name}: found shape {shape}, expected {n_elements} elements in all")
    if type_of(node.required(1))[1] != "uint8":
        raise ValueError(f"packed weights are {type_of(node.required(1))[1]}, expected uint8")
    if "float" not in type_of(node.required(2))[1]:
        raise ValueError(f"scales are {type_of(node.required(2))[1]}, expected floats")
    width = type_of(node.required(0))[0][-1]
    if isinstance(width, int) and width != how.depth:
        raise ValueError(f"x is {width} wide, expected K, which is {how.depth}")


def _stored_matrix(node: Node, how: Quantisation) -> QuantisedMatrix | None:
    """The weights as numbers, ``None`` if they are not constant or not for the packed form."""
    packed, scales = constant_array(node.required(1)), constant_array(node.required(2))
    zeros = node.input(3)
    points = None if zeros is None else constant_array(zeros)
    if packed is None or scales is None or (points is None) != (zeros is None):
        return None
    if points is not None and not how.packed_zero_points:
        return None
    bias = node.input(5)
    if bias is not None and type_of(bias)[1] != scales.dtype.name:
        return None
    if (type_of(node.required(0))[1] == "int8") != (node.input(6) is not None):
        return None
    fits = serves(
        node.required(0),
        bits=how.bits,
        block=how.block,
        depth=how.depth,
        scale_dtype=scales.dtype.name,
    )
    return _as_numbers(packed, scales, points, how) if fits else None


def _as_numbers(
    packed: np.ndarray, scales: np.ndarray, points: np.ndarray | None, how: Quantisation
) -> QuantisedMatrix:
    n_blocks = -(-how.depth // how.block)
    blocks = packed.reshape(how.n_columns, n_blocks, -1)
    codes = unpack_stream(blocks, how.bits, how.block).reshape(how.n_columns, -1)
    if points is not None:
        points = unpack_stream(points.reshape(how.n_columns, -1), how.bits, n_blocks)
    return QuantisedMatrix(
        codes=codes[:, : how.depth],
        scales=scales.reshape(how.n_columns, n_blocks),
        zero_points=points,
        bits=how.bits,
        block=how.block,
    )


def _zero_points(node: Node, how: Quantisation, n_blocks: int) -> Any:
    from tvm import relax

    zeros = node.input(3)
    if zeros is None:
        return None
    width = -(-n_blocks * how.bits // 8) if how.packed_zero_points else n_blocks
    return node.emit(relax.op.reshape(zeros, (how.n_columns, width)))

"""Product with a quantised matrix packed for tensor cores (``schedules/packing.py``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from effcompile.frontend.kernels.marking import marked_call, type_of
from schedules.gemv_dequant_problem import DTYPES, MOST_ROWS, OP, usable_group
from schedules.packing import (
    FRAGMENT_DEPTH,
    PLACES_OF_THREE,
    TILE_COLUMNS,
    UNIT_DEPTH,
    pack_codes,
    pack_groups,
)
from schedules.workload import Attribute


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedMatrix:
    """A matrix (n_columns, depth) as codes, scales and zero points.

    Attributes:
        codes: uint8, shape (n_columns, depth), below ``2**bits``.
        scales: Shape (n_columns, groups), float16 or bfloat16.
        zero_points: uint8, shape (n_columns, groups); ``None`` means half of the range.
        bits: 2, 3, 4 or 8.
        block: Codes that share a scale.
    """

    codes: np.ndarray
    scales: np.ndarray
    zero_points: np.ndarray | None
    bits: int
    block: int


def serves(x: Any, *, bits: int, block: int, depth: int, scale_dtype: str) -> bool:
    """Whether the packed form pays: few static rows of a 16-bit float, groups it can follow."""
    shape, dtype = type_of(x)
    if not all(isinstance(extent, int) for extent in shape) or dtype not in DTYPES:
        return False
    rows = int(np.prod(shape[:-1], dtype=np.int64))
    fits = usable_group(block, depth, bits) is not None
    return fits and scale_dtype == dtype and 1 <= rows <= MOST_ROWS


def gemv_dequant_call(builder: Any, x: Any, matrix: QuantisedMatrix, *, bias: Any = None) -> Any:
    """``x @ ((codes - zero_point) * scale).T + bias`` as one function of packed weights.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        x: Shape (..., depth).
        matrix: Packed here, so that the packed form is the parameter.
        bias: Shape (n_columns,), dtype of ``x``.

    Returns:
        Shape (..., n_columns), dtype of ``x``.
    """
    from tvm import relax

    n_columns, depth = matrix.codes.shape
    has_zeros, has_bias = matrix.zero_points is not None, bias is not None
    inputs = [
        x,
        relax.const(pack_codes(matrix.codes, matrix.bits)),
        relax.const(pack_groups(matrix.scales)),
    ]
    if matrix.zero_points is not None:
        inputs.append(relax.const(pack_groups(matrix.zero_points)))
    if has_bias:
        inputs.append(bias)
    attrs: dict[str, Attribute] = {
        "bits": matrix.bits,
        "block": matrix.block,
        "depth": depth,
        "n_columns": n_columns,
        "zero_points": has_zeros,
        "bias": has_bias,
    }
    definition = gemv_definition(attrs)
    return marked_call(builder, definition, inputs, op=OP, attrs=attrs)


def gemv_definition(attrs: dict[str, Attribute]) -> Any:
    """The function from tensors to the product that a workload's attributes describe."""

    def definition(x: Any, codes: Any, scales: Any, *rest: Any) -> Any:
        from tvm import te

        zeros = rest[0] if attrs["zero_points"] else None
        matrix = _dequantised(codes, scales, zeros, attrs)
        k = te.reduce_axis((0, int(attrs["depth"])), "k")
        shape = (*x.shape[:-1], int(attrs["n_columns"]))
        product = te.compute(
            shape,
            lambda *i: te.sum(x(*i[:-1], k).astype("float32") * matrix[i[-1], k], axis=k),
            name="gemv_dequant",
        )

        def finished(*i: Any) -> Any:
            value = product(*i)
            if attrs["bias"]:
                value = value + rest[-1](i[-1]).astype("float32")
            return value.astype(x.dtype)

        return te.compute(shape, finished, name="gemv_dequant_out")

    return definition


def _dequantised(codes: Any, scales: Any, zeros: Any, attrs: dict[str, Attribute]) -> Any:
    """The matrix in float32, shape (n_columns, depth)."""
    from tvm import te, tirx

    bits, block = int(attrs["bits"]), int(attrs["block"])

    def grouped(values: Any, n: Any, k: Any) -> Any:
        column = n % TILE_COLUMNS
        return values[n // TILE_COLUMNS, k // block, column % 8 * 2 + column // 8]

    def value(n: Any, k: Any) -> Any:
        quantum = _code(codes, n, k, bits).astype("float32")
        if zeros is None:
            zero = tirx.const(2 ** (bits - 1), "float32")
        else:
            zero = grouped(zeros, n, k).astype("float32")
        return (quantum - zero) * grouped(scales, n, k).astype("float32")

    return te.compute((int(attrs["n_columns"]), int(attrs["depth"])), value, name="dequantised")


def _code(codes: Any, n: Any, k: Any, bits: int) -> Any:
    """One code of the packed matrix; see ``schedules/packing.py`` for its place."""
    from tvm import tirx

    tile, column = n // TILE_COLUMNS, n % TILE_COLUMNS
    unit, inside = k // UNIT_DEPTH[bits], k % UNIT_DEPTH[bits]
    fragment = inside // FRAGMENT_DEPTH
    lane = column % 8 * 4 + inside % 32 // 8
    word = inside % 8 // 4 * 2 + column // 8
    byte = inside % 4 * 8

    def field(load: Any, offset: Any, width: int) -> Any:
        mask = tirx.const(2**width - 1, "uint32")
        return (codes[tile, unit, load, lane, word] >> offset.astype("uint32")) & mask

    if bits != 3:
        return field(0, byte + fragment * bits, bits)
    # The last two fragments: two bits of a load of their own, one of the third.
    last = tirx.max(fragment - 3 * PLACES_OF_THREE, 0)
    spread = (field(last, byte + 6, 2) << tirx.const(1, "uint32")) | field(2, byte + 7 - last, 1)
    load = tirx.min(fragment // PLACES_OF_THREE, 2)
    whole = field(load, byte + fragment % PLACES_OF_THREE * 3, 3)
    return tirx.Select(fragment < 3 * PLACES_OF_THREE, whole, spread)

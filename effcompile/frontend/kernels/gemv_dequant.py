"""Products with quantised matrices packed for tensor cores (``schedules/packing.py``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from effcompile.frontend.kernels.marking import marked_call, type_of
from schedules.dtypes import FLOATS
from schedules.gemv_dequant_problem import (
    GATED_COLUMNS,
    OP,
    OPTIONAL,
    columns_of,
    input_roles,
    tiles_of,
    usable_group,
)
from schedules.packing import (
    FRAGMENT_DEPTH,
    PLACES_OF_THREE,
    TILE_COLUMNS,
    UNIT_DEPTH,
    pack_codes,
    pack_groups,
)
from schedules.workload import Attribute

Tensors = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedMatrix:
    """A matrix (n_columns, depth) as codes, scales and zero points.

    Attributes:
        codes: uint8, shape (n_columns, depth), below ``2**bits``.
        scales: Shape (n_columns, groups), a float dtype.
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
    """Whether the packed form can be used: static shapes, groups and dtypes that it can follow."""
    shape, dtype = type_of(x)
    if not all(isinstance(extent, int) for extent in shape) or scale_dtype not in FLOATS:
        return False
    fits = usable_group(block, depth, bits) is not None
    return fits and dtype in (scale_dtype, "int8") and math.prod(shape[:-1]) >= 1


def packed_product(
    builder: Any, x: Any, matrix: QuantisedMatrix, *, bias: Any = None, x_scales: Any = None
) -> Any:
    """``x @ ((codes - zero_point) * scale).T + bias`` as one function of packed weights.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        x: Shape (..., depth), of the dtype of the matrix's scales or int8.
        matrix: Packed here, so that the packed form is the parameter.
        bias: Shape (n_columns,), dtype of the scales.
        x_scales: Factors of an int8 ``x``: of one element, or of shape (..., 1).

    Returns:
        Shape (..., n_columns), dtype of the scales.
    """
    from tvm import relax

    n_columns, depth = matrix.codes.shape
    given = {
        "x": x,
        "codes": relax.const(pack_codes(matrix.codes, matrix.bits)),
        "scales": relax.const(pack_groups(matrix.scales)),
        "bias": bias,
        "x_scales": x_scales,
    }
    if matrix.zero_points is not None:
        given["zeros"] = relax.const(pack_groups(matrix.zero_points))
    attrs: dict[str, Attribute] = {
        "bits": matrix.bits,
        "block": matrix.block,
        "depth": depth,
        "columns": str(n_columns),
        "activation": "",
        "gated": False,
    }
    return gemv_dequant_call(builder, given, attrs)


def gemv_dequant_call(builder: Any, given: Tensors, attrs: Mapping[str, Attribute]) -> Any:
    """The product that attributes describe, as one function.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        given: Inputs by role; absent ones may be ``None``.
        attrs: ``bits``, ``block``, ``depth``, ``columns`` (of every output, with spaces between),
            ``activation`` and ``gated``; see ``schedules/gemv_dequant_problem.py``.

    Returns:
        The output of shape (..., columns), or a tuple of several.
    """
    present = {role: given.get(role) is not None for role in OPTIONAL}
    full: dict[str, Attribute] = {**attrs, **present}
    inputs = [given[role] for role in input_roles(full)]
    return marked_call(builder, gemv_definition(full), inputs, op=OP, attrs=full)


def gemv_definition(attrs: Mapping[str, Attribute]) -> Callable[..., Any]:
    """The function from tensors to the products that a workload's attributes describe."""

    def definition(*tensors: Any) -> Any:
        given = dict(zip(input_roles(attrs), tensors, strict=True))
        matrix = _dequantised(given, attrs)
        outputs, tile = [], 0
        for columns in columns_of(attrs):
            # Kernels tell arguments apart by their names.
            name = f"gemv_dequant_out{tile or ''}"
            first = tile * TILE_COLUMNS
            outputs.append(_output(given, matrix, attrs, columns, first=first, name=name))
            tile += tiles_of(columns, gated=bool(attrs["gated"]))
        return outputs[0] if len(outputs) == 1 else outputs

    return definition


def _output(
    given: Tensors,
    matrix: Any,
    attrs: Mapping[str, Attribute],
    columns: int,
    *,
    first: int,
    name: str,
) -> Any:
    """One output, whose packed columns begin with ``first``."""
    from tvm import te

    gated = bool(attrs["gated"])

    def column(n: Any) -> Any:
        return n // GATED_COLUMNS * TILE_COLUMNS + n % GATED_COLUMNS if gated else first + n

    def up_column(n: Any) -> Any:
        return column(n) + GATED_COLUMNS

    product = _product(given["x"], matrix, columns, column)
    up = _product(given["x"], matrix, columns, up_column) if gated else None

    def finished(*i: Any) -> Any:
        value = _shifted(product(*i), given, i, column(i[-1]))
        value = _activated(value, str(attrs["activation"]))
        if up is not None:
            value = value * _shifted(up(*i), given, i, up_column(i[-1]))
        if "residual" in given:
            value = value + given["residual"](*i).astype("float32")
        return value.astype(given["scales"].dtype)

    return te.compute((*given["x"].shape[:-1], columns), finished, name=name)


def _product(x: Any, matrix: Any, columns: int, column: Callable[[Any], Any]) -> Any:
    from tvm import te

    k = te.reduce_axis((0, int(matrix.shape[1])), "k")
    return te.compute(
        (*x.shape[:-1], columns),
        lambda *i: te.sum(x(*i[:-1], k).astype("float32") * matrix[column(i[-1]), k], axis=k),
        name="gemv_dequant",
    )


def _shifted(value: Any, given: Tensors, i: tuple[Any, ...], column: Any) -> Any:
    """A sum with the scale of its row and the bias of its packed column."""
    if "x_scales" in given:
        scales = given["x_scales"]
        single = math.prod(int(extent) for extent in scales.shape) == 1
        place = [0] * len(scales.shape) if single else [*i[:-1], 0]
        value = value * scales(*place).astype("float32")
    return value + given["bias"](column).astype("float32") if "bias" in given else value


def _activated(value: Any, activation: str) -> Any:
    """One of ``schedules.gemv_dequant_problem.ACTIVATIONS`` of a float32."""
    from tvm import te, tirx

    def const(number: float) -> Any:
        return tirx.const(number, "float32")

    if activation == "silu":
        return value * te.sigmoid(value)
    if activation == "gelu":
        return const(0.5) * value * (const(1.0) + te.erf(value * const(math.sqrt(0.5))))
    if activation == "gelu_tanh":
        cube = const(0.044715) * value * value * value
        return value * te.sigmoid(const(2 * math.sqrt(2 / math.pi)) * (value + cube))
    return te.max(value, const(0.0)) if activation == "relu" else value


def _dequantised(given: Tensors, attrs: Mapping[str, Attribute]) -> Any:
    """The matrix in float32, shape (packed columns, depth)."""
    from tvm import te, tirx

    bits, block = int(attrs["bits"]), int(attrs["block"])

    def grouped(values: Any, n: Any, k: Any) -> Any:
        column = n % TILE_COLUMNS
        return values[n // TILE_COLUMNS, k // block, column % 8 * 2 + column // 8]

    def value(n: Any, k: Any) -> Any:
        quantum = _code(given["codes"], n, k, bits).astype("float32")
        if "zeros" in given:
            zero = grouped(given["zeros"], n, k).astype("float32")
        else:
            zero = tirx.const(2 ** (bits - 1), "float32")
        return (quantum - zero) * grouped(given["scales"], n, k).astype("float32")

    shape = (int(given["codes"].shape[0]) * TILE_COLUMNS, int(attrs["depth"]))
    return te.compute(shape, value, name="dequantised")


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

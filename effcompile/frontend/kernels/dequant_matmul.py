"""Product with a quantised matrix that is unpacked while it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from effcompile.frontend.kernels.marking import marked_call
from schedules.workload import Attribute


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """How a matrix of shape (n_columns, depth) is stored.

    Attributes:
        bits: 2, 4 or 8 per value, unsigned, lowest bits first within a byte.
        block: Consecutive values along ``depth`` that share a scale.
        depth: Length of the dot products; the last block may be padded.
        n_columns: Columns of the product.
        packed_zero_points: Zero points are packed like values, else floats.
    """

    bits: int
    block: int
    depth: int
    n_columns: int
    packed_zero_points: bool = True


def dequant_matmul_call(
    builder: Any,
    x: Any,
    packed: Any,
    scales: Any,
    *,
    quantisation: Quantisation,
    zero_points: Any = None,
    bias: Any = None,
) -> Any:
    """``x @ ((q - zero_point) * scale).T + bias`` as one function.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        x: Shape (..., depth).
        packed: uint8, shape (n_columns, blocks, block * bits / 8).
        scales: Shape (n_columns, blocks).
        quantisation: The storage format.
        zero_points: uint8 of shape (n_columns, bytes) if packed, else floats of shape
            (n_columns, blocks); ``None`` means half of the range.
        bias: Shape (n_columns,).

    Returns:
        Shape (..., n_columns), dtype of ``x``.
    """
    has_zeros, has_bias = zero_points is not None, bias is not None

    def definition(data: Any, weight: Any, scale: Any, *rest: Any) -> Any:
        zeros = rest[0] if has_zeros else None
        matrix = _dequantised(weight, scale, zeros, quantisation)
        return _product(data, matrix, rest[-1] if has_bias else None, quantisation)

    inputs = [x, packed, scales]
    inputs += [extra for extra in (zero_points, bias) if extra is not None]
    zeros_kind = "packed" if quantisation.packed_zero_points else "float"
    attrs: dict[str, Attribute] = {
        "bits": quantisation.bits,
        "block": quantisation.block,
        "depth": quantisation.depth,
        "n_columns": quantisation.n_columns,
        "zero_points": zeros_kind if has_zeros else "middle",
        "bias": has_bias,
    }
    return marked_call(builder, definition, inputs, op="dequant_matmul", attrs=attrs)


def _dequantised(packed: Any, scales: Any, zeros: Any, how: Quantisation) -> Any:
    """The matrix in float32, shape (n_columns, depth)."""
    from tvm import te, tirx

    per_byte = 8 // how.bits
    low_bits = tirx.const(2**how.bits - 1, "uint8")

    def unpacked(byte: Any, position: Any) -> Any:
        if per_byte == 1:
            return byte.astype("float32")
        shift = (position % per_byte * how.bits).astype("uint8")
        return ((byte >> shift) & low_bits).astype("float32")

    def zero_point(n: Any, block: Any) -> Any:
        if zeros is None:
            return tirx.const(2 ** (how.bits - 1), "float32")
        if not how.packed_zero_points:
            return zeros[n, block].astype("float32")
        return unpacked(zeros[n, block // per_byte], block)

    def value(n: Any, k: Any) -> Any:
        block, inside = k // how.block, k % how.block
        quantum = unpacked(packed[n, block, inside // per_byte], inside)
        return (quantum - zero_point(n, block)) * scales[n, block].astype("float32")

    return te.compute((how.n_columns, how.depth), value, name="dequantised")


def _product(x: Any, matrix: Any, bias: Any, how: Quantisation) -> Any:
    from tvm import te

    k = te.reduce_axis((0, how.depth), "k")
    shape = (*x.shape[:-1], how.n_columns)
    product = te.compute(
        shape,
        lambda *i: te.sum(x(*i[:-1], k).astype("float32") * matrix[i[-1], k], axis=k),
        name="dequant_matmul",
    )

    def finished(*i: Any) -> Any:
        value = product(*i)
        if bias is not None:
            value = value + bias(i[-1]).astype("float32")
        return value.astype(x.dtype)

    return te.compute(shape, finished, name="dequant_matmul_out")

"""Quantised matrices that models unpack by their own arithmetic, found before it is folded away.

PyTorch modules write ``linear(x, ((codes - zeros) * scales).reshape(...))`` in many ways: bytes and
packed nibbles, one scale per column or per group, signed or with zero points. What such arithmetic
does to every code is followed here through casts, sums, factors and moves; if each column has equal
scales and zero points in blocks of rows, the matrix is one that packed products read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd
from typing import Any

import numpy as np

from effcompile.frontend.constant_graph import ConstantGraph

MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity")
# Columns of packed products have scales for multiples of so many rows.
BLOCK_GRAIN = 32
# Chains from a product to the codes of its matrix are not longer.
MOST_STEPS = 16


@dataclass(frozen=True, slots=True)
class Dequantised:
    """``(codes - zeros) * scales``; zeros and scales broadcast to the codes."""

    codes: np.ndarray
    zeros: np.ndarray
    scales: np.ndarray

    def spread(self) -> Dequantised:
        """The same with zeros and scales of the shape of the codes."""
        shape = self.codes.shape
        return replace(
            self,
            zeros=np.broadcast_to(self.zeros, shape),
            scales=np.broadcast_to(self.scales, shape),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedColumns:
    """A matrix of unsigned codes.

    Attributes:
        values: int32, shape (depth, columns), from 0 to ``2**bits - 1``.
        scales: float32, shape (columns, blocks).
        zeros: int32, shape (columns, blocks), in the range of the values.
        bits: 4 or 8.
    """

    values: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray
    bits: int


def quantised_columns(graph: ConstantGraph, name: str, transposed: bool) -> QuantisedColumns | None:
    """The matrix (depth, columns) that a product reads under a name, ``None`` if it is another one.

    Args:
        graph: Constants of the model.
        name: Of the operand; a stored one is no arithmetic.
        transposed: Whether the product reads it as (columns, depth).
    """
    if name in graph.stored or not graph.is_known(name):
        return None
    found = _followed(graph, name, MOST_STEPS)
    if found is None or found.codes.ndim != 2:
        return None
    if not (np.isfinite(found.scales).all() and np.isfinite(found.zeros).all()):
        return None
    whole = found.spread()
    parts = [whole.codes, whole.zeros, whole.scales]
    codes, zeros, scales = (part.T if transposed else part for part in parts)
    block = _block(zeros, scales)
    if block % BLOCK_GRAIN:
        return None
    return _unsigned(codes, zeros[::block].T, scales[::block].T)


def _followed(graph: ConstantGraph, name: str, n_steps: int) -> Dequantised | None:
    node = graph.producers.get(name)
    if node is None or n_steps == 0:
        return None
    if node.op_type == "Cast":
        codes = _codes(graph, node.input[0])
        return codes or _followed(graph, node.input[0], n_steps - 1)
    if node.op_type in MOVES:
        inner = _followed(graph, node.input[0], n_steps - 1)
        return None if inner is None else _moved(graph, node, inner)
    if node.op_type in ("Mul", "Div", "Sub", "Add"):
        return _with_operand(graph, node, n_steps)
    return None


def _codes(graph: ConstantGraph, name: str) -> Dequantised | None:
    """Integers before they become floats; a difference of two is codes and their zero points."""
    value = graph.value(name)
    if value is None or value.dtype.kind not in "iu" or value.size == 0:
        return None
    one = np.ones((), np.float32)
    node = graph.producers.get(name)
    if node is not None and node.op_type == "Sub" and np.ptp(value) > 15:
        codes, zeros = (graph.value(source) for source in node.input)
        if codes is not None and zeros is not None and codes.shape == value.shape:
            return Dequantised(codes.astype(np.int32), zeros.astype(np.float32), one)
    return Dequantised(value.astype(np.int32), np.zeros((), np.float32), one)


def _with_operand(graph: ConstantGraph, node: Any, n_steps: int) -> Dequantised | None:
    """What a sum or a factor makes of codes, which may be either operand where order is free."""
    places = ((0, 1), (1, 0)) if node.op_type in ("Mul", "Add") else ((0, 1),)
    for this, other in places:
        inner = _followed(graph, node.input[this], n_steps - 1)
        value = None if inner is None else graph.value(node.input[other])
        if inner is None or value is None or value.ndim > inner.codes.ndim:
            continue
        number = value.astype(np.float32)
        if np.broadcast_shapes(number.shape, inner.codes.shape) != inner.codes.shape:
            continue
        if node.op_type == "Mul":
            return replace(inner, scales=inner.scales * number)
        if node.op_type == "Div":
            return replace(inner, scales=inner.scales / number) if number.all() else None
        with np.errstate(divide="ignore", invalid="ignore"):
            shift = number / inner.scales
        return replace(inner, zeros=inner.zeros + (shift if node.op_type == "Sub" else -shift))
    return None


def _moved(graph: ConstantGraph, node: Any, inner: Dequantised) -> Dequantised | None:
    whole = inner.spread()
    parts = (whole.codes, whole.zeros, whole.scales)
    if node.op_type == "Transpose":
        given = [list(one.ints) for one in node.attribute if one.name == "perm"]
        return Dequantised(*(np.transpose(one, given[0] if given else None) for one in parts))
    result = graph.value(node.output[0])
    return None if result is None else Dequantised(*(one.reshape(result.shape) for one in parts))


def _block(*parameters: np.ndarray) -> int:
    """Rows of a matrix (depth, columns) that always have the same parameters together."""
    block = int(parameters[0].shape[0])
    for one in parameters:
        changes = np.flatnonzero((one[1:] != one[:-1]).any(axis=1)) + 1
        block = gcd(block, *(int(place) for place in changes))
    return block


def _unsigned(codes: np.ndarray, zeros: np.ndarray, scales: np.ndarray) -> QuantisedColumns | None:
    """Codes and zero points shifted into 4 or 8 bits, ``None`` if they do not fit."""
    whole = np.rint(zeros)
    if not np.allclose(zeros, whole, rtol=0, atol=1e-3):
        return None
    lowest = int(min(codes.min(), whole.min()))
    highest = int(max(codes.max(), whole.max()))
    for bits in (4, 8):
        shift = 0 if lowest >= 0 else 1 << (bits - 1)
        if lowest + shift >= 0 and highest + shift < 1 << bits:
            return QuantisedColumns(
                values=codes + shift,
                scales=np.ascontiguousarray(scales),
                zeros=whole.astype(np.int32) + shift,
                bits=bits,
            )
    return None

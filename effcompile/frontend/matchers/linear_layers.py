"""Linear layers of constant matrices, as exporters leave them: a product, perhaps a bias."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from effcompile.frontend.constants import constant_array
from effcompile.frontend.kernels.marking import type_of
from effcompile.frontend.matchers.expressions import Scope


@dataclass(frozen=True, slots=True)
class Linear:
    """``x @ matrix + bias``.

    Attributes:
        x: A Relax expression of shape (..., depth).
        matrix: Shape (depth, columns).
        bias: Shape (columns,), ``None`` for none.
    """

    x: Any
    matrix: np.ndarray
    bias: np.ndarray | None

    @property
    def is_static(self) -> bool:
        """Whether all extents of ``x`` are known."""
        return all(isinstance(extent, int) for extent in type_of(self.x)[0])


def linear_layer(expression: Any, scope: Scope) -> Linear | None:
    """The layer that ends with an expression, and whose parts nobody else reads."""
    added = scope.call(expression, "add")
    if added is None:
        return _product(expression, scope)
    for this, other in ((0, 1), (1, 0)):
        bias = constant_array(scope.resolved(added.args[other]))
        if bias is None or not scope.is_read_by(added.args[this], 1):
            continue
        layer = _product(added.args[this], scope)
        if layer is not None and bias.shape[-1:] == layer.matrix.shape[1:] == (bias.size,):
            return replace(layer, bias=bias.reshape(-1))
    return None


def _product(expression: Any, scope: Scope) -> Linear | None:
    product = scope.call(expression, "matmul")
    matrix = None if product is None else constant_array(scope.resolved(product.args[1]))
    if product is None or matrix is None or matrix.ndim != 2:
        return None
    return Linear(product.args[0], matrix, None)


def part_of_layer(expression: Any, scope: Scope, *, readers: int) -> Linear | None:
    """The layer behind an expression that so many calls read: a whole one, or half of its columns.

    Gates are often halves of one layer, which the two halves alone read.
    """
    if not scope.is_read_by(expression, readers):
        return None
    part = scope.call(expression, "strided_slice")
    if part is None:
        return linear_layer(expression, scope)
    source = part.args[0]
    layer = linear_layer(source, scope) if scope.is_read_by(source, 2) else None
    columns = None if layer is None else _columns(part, len(type_of(source)[0]))
    if layer is None or columns is None:
        return None
    bias = None if layer.bias is None else layer.bias[columns]
    return Linear(layer.x, layer.matrix[:, columns], bias)


def _columns(part: Any, rank: int) -> slice | None:
    """What a slice takes of the last axis; ``None`` if it is of other axes, or has steps."""
    if len(part.args) != 4 or any(len(one.fields) != 1 for one in part.args[1:]):
        return None
    axis, begin, end = (int(one.fields[0]) for one in part.args[1:])
    return slice(begin, end) if axis % rank == rank - 1 else None

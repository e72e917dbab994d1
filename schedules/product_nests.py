"""Finds the loop nests of a program that are sums of products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schedules import _tvm
from schedules.affine import NotAffine, affine
from schedules.analysis import REDUCTION, SPATIAL, constant_extent
from schedules.dtypes import is_float
from schedules.products import Operand, Product


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductNest:
    """A nest with the buffers it reads and writes.

    Attributes:
        product: What it computes.
        left: Buffer of the left factor.
        right: Buffer of the right factor.
        out: Buffer of the result, every element of which is written.
    """

    product: Product
    left: Any
    right: Any
    out: Any


def product_nest(nest: Any) -> ProductNest | None:
    """A statement as a sum of products; ``None`` if it is anything else."""
    block = _block_of(nest)
    if block is None or not _starts_at_zero(block):
        return None
    factors = _factors(block.body)
    axes = _Axes.of(block)
    if factors is None or axes is None:
        return None
    left, right = (axes.operand(factor.indices) for factor in factors)
    names = axes.result_names(block.body)
    if left is None or right is None or names is None:
        return None
    if not axes.summed <= left.indices & right.indices or set(names) - left.indices - right.indices:
        return None
    return ProductNest(
        product=Product(extents=axes.extents, out=names, left=left, right=right),
        left=factors[0].source,
        right=factors[1].source,
        out=block.body.buffer,
    )


def _block_of(nest: Any) -> Any:
    """The block of a nest in which every loop is one axis of the block, else ``None``."""
    tvm = _tvm.load()
    loops = []
    while isinstance(nest, tvm.tirx.For):
        loops.append(nest)
        nest = nest.body
    if not isinstance(nest, tvm.s_tir.SBlockRealize) or not _is_number(nest.predicate, 1):
        return None
    block, values = nest.block, list(nest.iter_values)
    if len(loops) != len(values) or len(block.alloc_buffers) or len(block.match_buffers):
        return None
    for loop, value, axis in zip(loops, values, block.iter_vars, strict=True):
        whole = constant_extent(loop.extent) == constant_extent(axis.dom.extent)
        if not value.same_as(loop.loop_var) or not whole or not _is_number(loop.min, 0):
            return None
    return block


def _starts_at_zero(block: Any) -> bool:
    tirx = _tvm.load().tirx
    stores = (block.init, block.body)
    if not all(isinstance(store, tirx.BufferStore) for store in stores):
        return False
    same = block.init.buffer.same_as(block.body.buffer)
    return same and _is_number(block.init.value, 0) and is_float(str(block.body.buffer.dtype))


def _factors(store: Any) -> tuple[Any, Any] | None:
    """The two loads of ``c[...] = c[...] + a[...] * b[...]``."""
    tirx = _tvm.load().tirx
    if not isinstance(store.value, tirx.Add):
        return None
    for running, added in ((store.value.a, store.value.b), (store.value.b, store.value.a)):
        if not _is_load(running) or not running.source.same_as(store.buffer):
            continue
        same_place = all(
            one.same_as(other) for one, other in zip(running.indices, store.indices, strict=True)
        )
        if same_place and isinstance(added, tirx.Mul):
            left, right = _uncast(added.a), _uncast(added.b)
            if _is_load(left) and _is_load(right):
                return left, right
    return None


def _is_load(node: Any) -> bool:
    return isinstance(node, _tvm.load().ir.expr.TensorLoad)


def _uncast(node: Any) -> Any:
    """What is cast to a float; every value of our floats and small integers has one."""
    while isinstance(node, _tvm.load().tirx.Cast) and is_float(str(node.ty.dtype)):
        node = node.value
    return node


def _is_number(node: Any, value: float) -> bool:
    tirx = _tvm.load().tirx
    return isinstance(node, tirx.IntImm | tirx.FloatImm) and float(node.value) == value


@dataclass(frozen=True, slots=True)
class _Axes:
    """Axes of a block by the names of their variables.

    Attributes:
        extents: By name.
        summed: Names of the reduction axes.
    """

    extents: dict[str, int]
    summed: frozenset[str]

    @staticmethod
    def of(block: Any) -> _Axes | None:
        """Axes of fixed extents and distinct names that are summed or not; ``None`` for others."""
        kinds = {str(axis.var.name): int(axis.iter_type) for axis in block.iter_vars}
        extents = [constant_extent(axis.dom.extent) for axis in block.iter_vars]
        known = [extent for extent in extents if extent is not None]
        is_plain = len(kinds) == len(known) == len(extents)
        if not is_plain or set(kinds.values()) - {SPATIAL, REDUCTION}:
            return None
        return _Axes(
            extents=dict(zip(kinds, known, strict=True)),
            summed=frozenset(name for name, kind in kinds.items() if kind == REDUCTION),
        )

    def operand(self, indices: Sequence[Any]) -> Operand | None:
        """Affine indices as steps and starts; ``None`` if one is not affine."""
        try:
            found = [affine(index) for index in indices]
        except NotAffine:
            return None
        if any(start < 0 or set(steps) - set(self.extents) for steps, start in found):
            return None
        return Operand(
            steps=tuple(steps for steps, _ in found), starts=tuple(start for _, start in found)
        )

    def result_names(self, store: Any) -> tuple[str, ...] | None:
        """One spatial axis per dimension of the result, each over all of it; else ``None``."""
        place = self.operand(store.indices)
        if place is None:
            return None
        names = tuple(next(iter(steps), "") for steps in place.steps)
        plain = all(list(steps.values()) == [1] for steps in place.steps) and not any(place.starts)
        shape = tuple(int(extent) for extent in store.buffer.shape)
        if not plain or set(names) | self.summed != set(self.extents):
            return None
        if len(set(names)) < len(names) or shape != tuple(self.extents[one] for one in names):
            return None
        return names

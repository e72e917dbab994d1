"""Reads the block of a matrix product: which of its axes are rows, columns, terms and batches."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import prod
from typing import Any

from schedules.affine import linear
from schedules.analysis import REDUCTION
from schedules.contraction import Operand
from schedules.dtypes import FLOATS
from schedules.nest_parts import extents_of, require, shape_of, uncast


class ProductBlock:
    """The contraction block, its axes divided into batch, m, n and k.

    Args:
        block: The contraction.
        copies: Buffers that hold what another one does, with its name.
    """

    def __init__(self, block: Any, copies: Mapping[str, str]) -> None:
        self.copies = copies
        self.extents = extents_of(block)
        reduced = [
            str(axis.var.name) for axis in block.iter_vars if int(axis.iter_type) == REDUCTION
        ]
        store = block.body
        require(type(store).__name__ == "BufferStore" and type(store.value).__name__ == "Add")
        self.buffer = store.buffer
        self.shape = shape_of(store.buffer)
        self.written = self._strides(store.buffer, store.indices)
        require(len(store.indices) == len(block.iter_vars) - len(reduced))
        self._check_accumulation(store)
        self.axes = [name for name in self.extents if name not in reduced]
        self._name_operands(store)
        self._divide(reduced)

    def _check_accumulation(self, store: Any) -> None:
        old = store.value.a
        require(type(old).__name__ == "TensorLoad" and old.source.same_as(store.buffer))
        require(self._strides(old.source, old.indices) == self.written)
        require(str(store.buffer.dtype) in FLOATS)

    def _name_operands(self, store: Any) -> None:
        product = store.value.b
        require(type(product).__name__ == "Mul")
        first, second = (uncast(factor) for factor in (product.a, product.b))
        unit = [name for name in self.axes if self.written.get(name) == 1]
        require(len(unit) == 1)
        one, two = (self._strides(load.source, load.indices) for load in (first, second))
        if unit[0] in one and unit[0] not in two:
            first, second, one, two = second, first, two, one
        require(unit[0] in two and unit[0] not in one)
        self.a, self.b = one, two
        self.names = {id(one): str(first.source.name), id(two): str(second.source.name)}
        self.dtype = str(first.source.dtype)
        require(self.dtype in FLOATS and str(second.source.dtype) == self.dtype)

    def _divide(self, reduced: list[str]) -> None:
        """Fold axes: the longest run of own axes is m (or n), what is left is batch."""
        real = [name for name in self.axes if self.extents[name] > 1]
        columns = self._run([name for name in real if name not in self.a], self.b)
        rows = self._run([name for name in real if name not in self.b], self.a)
        rest = [name for name in real if name not in columns and name not in rows]
        depth = [name for name in reduced if self.extents[name] > 1]
        self.roles = {"batch": rest, "m": rows, "n": columns, "k": depth}
        require(bool(columns) and bool(depth))

    def _run(self, names: list[str], operand: Mapping[str, int]) -> list[str]:
        """The longest suffix of axes that folds in the operand and in the product."""
        for start in range(len(names)):
            part = names[start:]
            if self._folds(part, operand) and self._folds(part, self.written):
                return part
        return []

    def _folds(self, names: list[str], strides: Mapping[str, int]) -> bool:
        return all(
            strides.get(outer, 0) == strides.get(inner, 0) * self.extents[inner]
            for outer, inner in pairwise(names)
        )

    def step(self, role: str, strides: Mapping[str, int]) -> int:
        """Step of a folded axis."""
        names = self.roles[role]
        require(self._folds(names, strides))
        return strides.get(names[-1], 0) if names else 0

    def extent(self, role: str) -> int:
        """Length of a folded axis."""
        return prod(self.extents[name] for name in self.roles[role])

    def operand(self, strides: Mapping[str, int], own: str) -> Operand:
        """One factor with folded steps."""
        return Operand(
            buffer=self._original(self.names[id(strides)]),
            batch=self.step("batch", strides),
            row=self.step(own, strides),
            depth=self.step("k", strides),
        )

    def _original(self, name: str) -> str:
        while name in self.copies:
            name = self.copies[name]
        return name

    def _strides(self, buffer: Any, indices: Any) -> dict[str, int]:
        strides, offset = linear(shape_of(buffer), indices, self.extents)
        require(offset == 0)
        return strides

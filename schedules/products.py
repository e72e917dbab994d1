"""Sums of products of two arrays in float64, through the matrix product of NumPy's BLAS.

    out[s...] = sum over r... of left[affine in s, r] * right[affine in s, r]

Matrix products, batched or transposed, and convolutions of every kind are of this form. Each
operand is seen through strides, one axis per index it depends on, so a convolution's
overlapping windows need no rule of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

# Elements of the copies that one matrix product works on, 256 MiB.
MOST_COPIED = 1 << 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """How an array is indexed.

    Attributes:
        steps: Per dimension of the array, index name to coefficient.
        starts: Per dimension, the constant added.
    """

    steps: tuple[Mapping[str, int], ...]
    starts: tuple[int, ...]

    @property
    def indices(self) -> frozenset[str]:
        """Names it depends on."""
        return frozenset(name for steps in self.steps for name in steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A sum of products.

    Attributes:
        extents: Index name to extent.
        out: Index names along the dimensions of the result.
        left: One factor; depends on every summed index, as does the other.
        right: The other.
    """

    extents: Mapping[str, int]
    out: tuple[str, ...]
    left: Operand
    right: Operand

    @property
    def flops(self) -> float:
        """Multiplications and additions."""
        return 2.0 * prod(self.extents.values())

    def compute(self, left: np.ndarray, right: np.ndarray, result: np.ndarray) -> None:
        """Fill ``result``, float64, of the extents of ``out``."""
        self._fill(
            _View.of(left, self.left, self.extents),
            _View.of(right, self.right, self.extents),
            _View(result, self.out),
        )

    def _fill(self, left: _View, right: _View, out: _View) -> None:
        """Compute ``out``, in halves while the operands' copies are too large."""
        if max(left.array.size, right.array.size) <= MOST_COPIED:
            _multiply(left, right, out)
            return
        larger = left if left.array.size >= right.array.size else right
        free = [name for name in larger.names if name in out.names and larger.extent(name) > 1]
        if not free:
            _multiply(left, right, out)
            return
        name = max(free, key=larger.extent)
        middle = larger.extent(name) // 2
        for part in (slice(None, middle), slice(middle, None)):
            self._fill(left.cut(name, part), right.cut(name, part), out.cut(name, part))


@dataclass(frozen=True, slots=True)
class _View:
    """An array whose axes have names."""

    array: np.ndarray
    names: tuple[str, ...]

    @staticmethod
    def of(array: np.ndarray, operand: Operand, extents: Mapping[str, int]) -> _View:
        names = tuple(name for name in extents if name in operand.indices)
        start = array[tuple(slice(first, None) for first in operand.starts)]
        strides = [
            sum(
                steps.get(name, 0) * size
                for steps, size in zip(operand.steps, array.strides, strict=True)
            )
            for name in names
        ]
        shape = [extents[name] for name in names]
        view = np.lib.stride_tricks.as_strided(start, shape, strides, writeable=False)
        return _View(view, names)

    def extent(self, name: str) -> int:
        return int(self.array.shape[self.names.index(name)])

    def cut(self, name: str, part: slice) -> _View:
        if name not in self.names:
            return self
        at = self.names.index(name)
        return _View(self.array[(slice(None),) * at + (part,)], self.names)

    def ordered(self, names: Sequence[str]) -> np.ndarray:
        return self.array.transpose([self.names.index(name) for name in names])


def _multiply(left: _View, right: _View, out: _View) -> None:
    summed = [name for name in left.names if name not in out.names]
    both = [name for name in out.names if name in left.names and name in right.names]
    rows = [name for name in out.names if name in left.names and name not in right.names]
    columns = [name for name in out.names if name not in left.names]
    # Casts and copies happen here, once per operand.
    a = _flat(left.ordered([*both, *rows, *summed]), len(both), len(rows))
    b = _flat(right.ordered([*both, *summed, *columns]), len(both), len(summed))
    place = out.ordered([*both, *rows, *columns])
    place[...] = np.matmul(a, b).reshape(place.shape)


def _flat(array: np.ndarray, n_batch: int, n_rows: int) -> np.ndarray:
    """Batch, rows and columns as one axis each, float64."""
    shape = array.shape
    wide = np.ascontiguousarray(array, dtype=np.float64)
    middle = n_batch + n_rows
    return wide.reshape(prod(shape[:n_batch]), prod(shape[n_batch:middle]), prod(shape[middle:]))

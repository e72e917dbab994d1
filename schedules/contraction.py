"""Recognises programs that are one matrix product with an elementwise ending.

Such programs come out of fusion (``matmul, add, gelu``): a contraction block
``C[b, m, n] += A[b, m, k] * B[b, k, n]`` in any layout, followed by blocks that compute
one element of an output from the same element of ``C`` and of other inputs. Loop axes of
one role are folded into one; a program whose axes do not fold is not covered. Blocks that copy
an operand as it is may stand before: a convolution of extent 1 pads its input by nothing, and
is a product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import Any

from schedules import _tvm
from schedules.affine import Axes, NotAffine, linear
from schedules.analysis import REDUCTION, leaf_blocks, new_schedule
from schedules.nest_parts import NotCovered, require, shape_of, uncast
from schedules.tir_text import NotTranslated, Read, translated
from schedules.workload import Workload

HALF = ("float16", "bfloat16")
FLOATS = (*HALF, "float32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """Where an element lies: ``batch * b + row * (m or n) + depth * k`` elements from the start.

    Attributes:
        buffer: Name of the input.
        batch: Step of the batch axis; 0 if all batches share the operand.
        row: Step of the operand's own axis.
        depth: Step of the summed axis.
    """

    buffer: str
    batch: int
    row: int
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """An element that the ending reads or writes: ``batch * b + m * i + n * j + offset``.

    Attributes:
        buffer: Name of the input or output.
        dtype: Its element type.
        batch: Step of the batch axis.
        m: Step along the rows.
        n: Step along the columns.
        offset: First element.
    """

    buffer: str
    dtype: str
    batch: int
    m: int
    n: int
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contraction:
    """One product with its ending.

    Attributes:
        batch: Independent products.
        m: Rows of the product.
        n: Columns; neighbours in the output.
        k: Terms of every sum.
        dtype: Element type of both operands.
        a: The operand with the rows.
        b: The operand with the columns.
        out: The output.
        reads: Inputs of the ending, in the order of its arguments ``x0``, ``x1``, ...
        lines: CUDA statements of the ending, in float32, from ``sum`` and the arguments.
        result: The CUDA expression that is stored.
    """

    batch: int
    m: int
    n: int
    k: int
    dtype: str
    a: Operand
    b: Operand
    out: Side
    reads: tuple[Side, ...]
    lines: tuple[str, ...]
    result: str


def contraction_of(workload: Workload) -> Contraction | None:
    """The product behind a generic workload, ``None`` if it is something else."""
    if workload.op != "generic" or len(workload.outputs) != 1 or len(workload.inputs) < 2:
        return None
    return _contraction(workload.program, workload)


@lru_cache(maxsize=64)
def _cached(program: str, key: str) -> Contraction | None:
    del key
    schedule = new_schedule(_tvm.load().ir.load_json(program))
    try:
        return _recognised([schedule.get(block) for block in leaf_blocks(schedule)])
    except (NotCovered, NotAffine, NotTranslated):
        return None


def _contraction(program: str, workload: Workload) -> Contraction | None:
    found = _cached(program, workload.workload_id)
    names = {spec.name for spec in workload.inputs}
    if found is None or found.out.buffer != workload.outputs[0].name:
        return None
    used = {found.a.buffer, found.b.buffer, *(side.buffer for side in found.reads)}
    return found if used <= names else None


def _recognised(blocks: Sequence[Any]) -> Contraction:
    n_copies = next((i for i, block in enumerate(blocks) if is_reduction(block)), len(blocks))
    if n_copies == len(blocks) or any(map(is_reduction, blocks[n_copies + 1 :])):
        raise NotCovered
    product = ProductBlock(blocks[n_copies], dict(map(_copy, blocks[:n_copies])))
    ending = EndingBlocks(product, blocks[n_copies + 1 :])
    return Contraction(
        batch=product.extent("batch"),
        m=product.extent("m"),
        n=product.extent("n"),
        k=product.extent("k"),
        dtype=product.dtype,
        a=product.operand(product.a, "m"),
        b=product.operand(product.b, "n"),
        out=ending.out,
        reads=tuple(ending.reads),
        lines=tuple(ending.lines),
        result=ending.result,
    )


def is_reduction(block: Any) -> bool:
    """Whether a block sums over one of its axes."""
    return any(int(axis.iter_type) == REDUCTION for axis in block.iter_vars)


def _copy(block: Any) -> tuple[str, str]:
    """The buffer that a block fills, and the one of which it is a copy."""
    store = block.body
    require(type(store).__name__ == "BufferStore" and type(store.value).__name__ == "TensorLoad")
    load, extents = store.value, _extents(block)
    require(shape_of(store.buffer) == shape_of(load.source))
    require(str(store.buffer.dtype) == str(load.source.dtype))
    written = linear(shape_of(store.buffer), store.indices, extents)
    require(written == linear(shape_of(load.source), load.indices, extents) and written[1] == 0)
    require(prod(extents.values()) == prod(shape_of(store.buffer)))
    return str(store.buffer.name), str(load.source.name)


def _extents(block: Any) -> Axes:
    return {str(axis.var.name): int(axis.dom.extent) for axis in block.iter_vars}


class ProductBlock:
    """The contraction block, its axes divided into batch, m, n and k.

    Args:
        block: The contraction.
        copies: Buffers that hold what another one does, with its name.
    """

    def __init__(self, block: Any, copies: Mapping[str, str]) -> None:
        self.copies = copies
        self.extents = _extents(block)
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


class EndingBlocks:
    """The elementwise blocks behind the product as CUDA text."""

    def __init__(self, product: ProductBlock, blocks: Sequence[Any]) -> None:
        self.product = product
        self.reads: list[Side] = []
        self.lines: list[str] = []
        self.result = "sum"
        self.known: list[tuple[Any, str]] = [(product.buffer, "sum")]
        written = product.buffer
        for number, block in enumerate(blocks):
            written = self._block(block, number)
        self.out = self._side(written, product.written, 0)

    def _block(self, block: Any, number: int) -> Any:
        """One block: ``t<number> = expression``; answers the buffer it writes."""
        store = block.body
        require(type(store).__name__ == "BufferStore")
        require(shape_of(store.buffer) == self.product.shape)
        extents = _extents(block)
        self.renamed = self._positions(store, extents)
        self.extents = extents
        text = translated(store.value, self._read)
        self.result = f"t{number}"
        self.lines.append(f"const float t{number} = {text};")
        self.known.append((store.buffer, self.result))
        return store.buffer

    def _positions(self, store: Any, extents: Axes) -> dict[str, str]:
        """The product's axis for each axis of a block that writes the same position."""
        strides, offset = linear(shape_of(store.buffer), store.indices, extents)
        by_stride = {
            step: name
            for name, step in self.product.written.items()
            if self.product.extents[name] > 1
        }
        require(offset == 0)
        renamed = {}
        for name, step in strides.items():
            if extents[name] > 1:
                require(step in by_stride)
                require(self.product.extents[by_stride[step]] == extents[name])
                renamed[name] = by_stride[step]
        require(len(set(renamed.values())) == len(by_stride))
        return renamed

    def _read(self, load: Read) -> str:
        """The text of a read: an earlier value, or an argument of the ending."""
        strides, offset = linear(shape_of(load.source), load.indices, self.extents)
        renamed = {
            self.renamed[name]: step for name, step in strides.items() if name in self.renamed
        }
        for buffer, text in self.known:
            if load.source.same_as(buffer):
                require(offset == 0 and renamed == self._written_real())
                return text
        side = self._side(load.source, renamed, offset)
        if side not in self.reads:
            self.reads.append(side)
        return f"x{self.reads.index(side)}"

    def _written_real(self) -> dict[str, int]:
        extents = self.product.extents
        return {name: step for name, step in self.product.written.items() if extents[name] > 1}

    def _side(self, buffer: Any, strides: Mapping[str, int], offset: int) -> Side:
        dtype = str(buffer.dtype)
        require(dtype in (*FLOATS, "bool"))
        return Side(
            buffer=str(buffer.name),
            dtype=dtype,
            batch=self.product.step("batch", strides),
            m=self.product.step("m", strides),
            n=self.product.step("n", strides),
            offset=offset,
        )

"""Reads the elementwise blocks behind a matrix product as CUDA text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schedules.affine import Axes, linear
from schedules.contraction import PAIRED_COLUMNS, Side
from schedules.dtypes import FLOATS, HALF
from schedules.nest_parts import extents_of, require, shape_of
from schedules.product_block import ProductBlock
from schedules.tir_text import Read, translated


class EndingBlocks:
    """The elementwise blocks behind the product as CUDA text."""

    def __init__(self, product: ProductBlock, blocks: Sequence[Any]) -> None:
        self.product = product
        self.reads: list[Side] = []
        self.lines: list[str] = []
        self.result = "sum"
        self.known: list[tuple[Any, str]] = []
        self.each, self.shape = 1, product.shape
        self.written, self.own_extents = product.written, product.extents
        written = product.buffer
        for number, block in enumerate(blocks):
            if number == 0 and shape_of(block.body.buffer) != product.shape:
                self._pair()
            written = self._block(block, number)
        self.out = self._side(written, self.written, 0)

    def _pair(self) -> None:
        """Every element of what follows is made of two neighbours of the product."""
        product = self.product
        require(len(product.roles["n"]) == 1 and product.dtype in HALF)
        require(product.extent("n") % PAIRED_COLUMNS == 0)
        (columns,) = product.roles["n"]
        half = {name: step // 2 for name, step in product.written.items()}
        self.each, self.shape = 2, (*product.shape[:-1], product.shape[-1] // 2)
        self.written = {**half, columns: 1}
        self.own_extents = {**product.extents, columns: product.extents[columns] // 2}

    def _block(self, block: Any, number: int) -> Any:
        """One block: ``t<number> = expression``; answers the buffer it writes."""
        store = block.body
        require(type(store).__name__ == "BufferStore")
        require(shape_of(store.buffer) == self.shape)
        extents = extents_of(block)
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
        by_stride = {step: name for name, step in self._real(self.written).items()}
        require(offset == 0)
        renamed = {}
        for name, step in strides.items():
            if extents[name] > 1:
                require(step in by_stride)
                require(self.own_extents[by_stride[step]] == extents[name])
                renamed[name] = by_stride[step]
        require(len(set(renamed.values())) == len(by_stride))
        return renamed

    def _read(self, load: Read) -> str:
        """The text of a read: an earlier value, or an argument of the ending."""
        strides, offset = linear(shape_of(load.source), load.indices, self.extents)
        renamed = {
            self.renamed[name]: step for name, step in strides.items() if name in self.renamed
        }
        if load.source.same_as(self.product.buffer):
            return self._sum(renamed, offset)
        for buffer, text in self.known:
            if load.source.same_as(buffer):
                require(offset == 0 and renamed == self._real(self.written))
                return text
        side = self._side(load.source, renamed, offset)
        if side not in self.reads:
            self.reads.append(side)
        return f"x{self.reads.index(side)}"

    def _sum(self, strides: Mapping[str, int], offset: int) -> str:
        """The product's element here, or one of the two."""
        wanted = dict(self.product.written)
        if self.each == 2:
            wanted[self.product.roles["n"][0]] = 2
        require(strides == self._real(wanted) and 0 <= offset < self.each)
        return ("sum", "other")[offset]

    def _real(self, strides: Mapping[str, int]) -> dict[str, int]:
        return {name: step for name, step in strides.items() if self.own_extents[name] > 1}

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

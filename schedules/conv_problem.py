"""Recognises programs that are one convolution, channels last, with an elementwise ending.

Such programs come out of fusion (``conv2d, cast, add, relu``): a block that pads the images by
zeros, a sum over kernel and channels

    C[n, y, x, f] += P[n, y * stride + r * dilation, x * stride + s * dilation, c] * W[f, r, s, c]

and blocks that compute one element of the output from the same element of ``C`` and of other
inputs, as behind a matrix product. Seen as one, its rows are the pixels of all images, its
columns the filters, and its terms the kernel's places with their channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from schedules.affine import affine
from schedules.contraction import Contraction, Operand
from schedules.convolution import Convolution, Direction
from schedules.dtypes import HALF
from schedules.ending_blocks import EndingBlocks
from schedules.nest_parts import require, shape_of, single, uncast
from schedules.padded_images import Padded
from schedules.product_block import ProductBlock
from schedules.product_reading import around_sum, may_be_product, read_program
from schedules.workload import Workload

ALIGNED_ELEMENTS = 8
"""Of 16 bits, that are copied as one piece at least."""


def convolution_of(workload: Workload) -> Convolution | None:
    """The convolution behind a generic workload, ``None`` if it is something else."""
    found = _cached(workload.program) if may_be_product(workload) else None
    return found if found is not None and found.product.is_all_of(workload) else None


@lru_cache(maxsize=64)
def _cached(program: str) -> Convolution | None:
    return read_program(program, _recognised)


def _recognised(blocks: Sequence[Any]) -> Convolution:
    before, of_sums, behind = around_sum(blocks)
    require(len(before) <= 1)
    block = _SumBlock(of_sums)
    padded = Padded.of(before[0]) if before else Padded.none(block.data.source)
    require(padded.buffer.same_as(block.data.source) and block.dtype in HALF)
    images, _, _, channels = shape_of(padded.source)
    require(channels == shape_of(block.weights.source)[3])
    ending = EndingBlocks(block, behind)
    require(ending.each == 1)
    height, width = (block.direction(1, padded), block.direction(2, padded))
    product = Contraction(
        batch=1,
        m=block.extent("m"),
        n=block.extent("n"),
        k=block.extent("k"),
        dtype=block.dtype,
        a=Operand(buffer=str(padded.source.name), batch=0, row=channels, depth=1),
        b=Operand(buffer=str(block.weights.source.name), batch=0, row=block.extent("k"), depth=1),
        out=ending.out,
        reads=tuple(ending.reads),
        lines=tuple(ending.lines),
        result=ending.result,
    )
    found = Convolution(
        images=images,
        height=height,
        width=width,
        channels=channels,
        pixel_step=channels,
        line_step=channels * width.extent,
        product=product,
    )
    return found if channels % ALIGNED_ELEMENTS == 0 else _windows(found)


def _windows(problem: Convolution) -> Convolution:
    """The same, with all places of a row of the kernel as channels of overlapping pixels.

    Without zeros beside the images, what lies under one row of the kernel are neighbours in
    memory. So few channels can be read in aligned pieces, although a pixel of them cannot.
    """
    width, channels = problem.width, problem.channels
    end = (width.out - 1) * width.stride + width.kernel
    require(width.padding == 0 and width.dilation == 1 and end <= width.extent)
    return replace(
        problem,
        width=Direction(extent=width.out, out=width.out, kernel=1, stride=1, dilation=1, padding=0),
        channels=channels * width.kernel,
        pixel_step=channels * width.stride,
    )


class _SumBlock(ProductBlock):
    """The block of sums, every axis in its place."""

    def __init__(self, block: Any) -> None:
        self.data, self.weights = _factors(block)
        super().__init__(block, {})
        self.out_names = [single(index) for index in block.body.indices]
        self.kernel_names = [single(index) for index in self.weights.indices]
        require(len(self.out_names) == 4 and len(self.kernel_names) == 4)
        require(self.kernel_names[0] == self.out_names[3])
        steps = [affine(index) for index in self.data.indices]
        require(steps[0] == ({self.out_names[0]: 1}, 0))
        require(steps[3] == ({self.kernel_names[3]: 1}, 0))
        self.steps = steps
        extents = [self.extents[name] for name in self.kernel_names]
        require(tuple(extents) == shape_of(self.weights.source))

    def _divide(self, reduced: list[str]) -> None:
        """Pixels of all images are rows, filters are columns."""
        real = [name for name in self.axes if self.extents[name] > 1]
        rows = [name for name in real if name not in self.b]
        columns = [name for name in real if name not in self.a]
        require(len(columns) == 1 and bool(rows) and len(rows) + 1 == len(real))
        depth = [name for name in reduced if self.extents[name] > 1]
        self.roles = {"batch": [], "m": rows, "n": columns, "k": depth}

    def direction(self, dimension: int, padded: Padded) -> Direction:
        """Dimension 1 of the images is the height, 2 the width."""
        out, kernel = self.out_names[dimension], self.kernel_names[dimension]
        steps, start = self.steps[dimension]
        require(start == 0 and set(steps) <= {out, kernel})
        return Direction(
            extent=shape_of(padded.source)[dimension],
            out=self.extents[out],
            kernel=self.extents[kernel],
            stride=steps.get(out, 1),
            dilation=steps.get(kernel, 1),
            padding=padded.before[dimension],
        )


def _factors(block: Any) -> tuple[Any, Any]:
    """Reads of the images and of the weights."""
    store = block.body
    require(type(store).__name__ == "BufferStore" and type(store.value).__name__ == "Add")
    product = store.value.b
    require(type(product).__name__ == "Mul")
    loads = [uncast(product.a), uncast(product.b)]
    require(all(len(load.indices) == 4 for load in loads))
    return loads[0], loads[1]

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
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from schedules import _tvm
from schedules.affine import NotAffine, affine
from schedules.analysis import leaf_blocks, new_schedule
from schedules.contraction import (
    HALF,
    Contraction,
    EndingBlocks,
    Operand,
    ProductBlock,
    is_reduction,
)
from schedules.nest_parts import NotCovered, require, shape_of, uncast
from schedules.tir_text import NotTranslated
from schedules.workload import Workload

ALIGNED_ELEMENTS = 8
"""Of 16 bits, that are copied as one piece at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One direction of a convolution, along the height or the width.

    Attributes:
        extent: Of the images, in pixels, without padding.
        out: Of the output.
        kernel: Places of the kernel.
        stride: Pixels between neighbours of the output.
        dilation: Pixels between neighbours of the kernel.
        padding: Zeros before the first pixel; those behind the last one follow.
    """

    extent: int
    out: int
    kernel: int
    stride: int
    dilation: int
    padding: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """One convolution with its ending.

    Attributes:
        images: How many.
        height: Along the rows of pixels.
        width: Along the pixels of a row; neighbours in memory but for the channels.
        channels: Of the images; neighbours in memory.
        pixel_step: Elements from a pixel to the next of its row.
        line_step: Elements from a row of pixels to the next.
        product: Pixels times filters: the sums' extents, dtype, buffers and ending. Its operands
            have the steps of a kernel with one place.
    """

    images: int
    height: Direction
    width: Direction
    channels: int
    pixel_step: int
    line_step: int
    product: Contraction

    @property
    def filters(self) -> int:
        """Channels of the output."""
        return self.product.n

    @property
    def places(self) -> int:
        """Places of the kernel."""
        return self.height.kernel * self.width.kernel


def convolution_of(workload: Workload) -> Convolution | None:
    """The convolution behind a generic workload, ``None`` if it is something else."""
    if workload.op != "generic" or len(workload.outputs) != 1 or len(workload.inputs) < 2:
        return None
    found = _cached(workload.program, workload.workload_id)
    if found is None or found.product.out.buffer != workload.outputs[0].name:
        return None
    names = {spec.name for spec in workload.inputs}
    product = found.product
    used = {product.a.buffer, product.b.buffer, *(side.buffer for side in product.reads)}
    return found if used <= names else None


@lru_cache(maxsize=64)
def _cached(program: str, key: str) -> Convolution | None:
    del key
    schedule = new_schedule(_tvm.load().ir.load_json(program))
    try:
        return _recognised([schedule.get(block) for block in leaf_blocks(schedule)])
    except (NotCovered, NotAffine, NotTranslated):
        return None


def _recognised(blocks: Sequence[Any]) -> Convolution:
    first = next((i for i, block in enumerate(blocks) if is_reduction(block)), len(blocks))
    if first not in (0, 1) or first == len(blocks) or any(map(is_reduction, blocks[first + 1 :])):
        raise NotCovered
    block = _SumBlock(blocks[first])
    padded = _Padded.of(blocks[0]) if first else _Padded.none(block.data.source)
    require(padded.buffer.same_as(block.data.source) and block.dtype in HALF)
    images, _, _, channels = shape_of(padded.source)
    require(channels == shape_of(block.weights.source)[3])
    ending = EndingBlocks(block, blocks[first + 1 :])
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
        self.out_names = [_single(index) for index in block.body.indices]
        self.kernel_names = [_single(index) for index in self.weights.indices]
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

    def direction(self, dimension: int, padded: _Padded) -> Direction:
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


@dataclass(frozen=True, slots=True)
class _Padded:
    """A buffer that holds images with zeros around them.

    Attributes:
        buffer: Padded.
        source: The images.
        before: Zeros before the first element of every dimension.
    """

    buffer: Any
    source: Any
    before: tuple[int, ...]

    @staticmethod
    def none(source: Any) -> _Padded:
        """The images are read as they are."""
        return _Padded(source, source, (0, 0, 0, 0))

    @staticmethod
    def of(block: Any) -> _Padded:
        """What a block that pads, or merely copies, stands for."""
        store = block.body
        require(type(store).__name__ == "BufferStore" and len(store.indices) == 4)
        condition, load = _guarded(store.value)
        require(type(load).__name__ == "TensorLoad" and len(load.indices) == 4)
        require(str(load.source.dtype) == str(store.buffer.dtype))
        names = [_single(index) for index in store.indices]
        before = []
        for name, index in zip(names, load.indices, strict=True):
            steps, start = affine(index)
            require(steps == {name: 1} and start <= 0)
            before.append(-start)
        padded = _Padded(store.buffer, load.source, tuple(before))
        require(before[0] == before[3] == 0)
        padded._check(dict(zip(names, range(4), strict=True)), _bounds(condition))
        return padded

    def _check(self, dimensions: dict[str, int], bounds: list[tuple[str, int, int]]) -> None:
        """The condition must be true exactly where there is a pixel."""
        whole = shape_of(self.buffer)
        low, high = [0] * 4, list(whole)
        for name, least, end in bounds:
            require(name in dimensions)
            place = dimensions[name]
            low[place], high[place] = max(low[place], least), min(high[place], end)
        for place, extent in enumerate(shape_of(self.source)):
            first = self.before[place]
            require((low[place], high[place]) == (first, first + extent))


def _guarded(value: Any) -> tuple[Any, Any]:
    """The condition, ``None`` without one, and what is read if it is true; zero else."""
    if type(value).__name__ != "Call":
        return None, value
    require(str(value.op.name).endswith("if_then_else"))
    condition, load, other = value.args
    require(type(other).__name__ == "FloatImm" and float(other.value) == 0.0)
    return condition, load


ENDLESS = 1 << 62


def _bounds(condition: Any) -> list[tuple[str, int, int]]:
    """A conjunction of comparisons as (variable, first value, value behind the last)."""
    if condition is None:
        return []
    kind = type(condition).__name__
    if kind == "And":
        return [*_bounds(condition.a), *_bounds(condition.b)]
    require(kind in ("LE", "LT", "GE", "GT"))
    (left, low), (right, high) = affine(condition.a), affine(condition.b)
    if kind in ("GE", "GT"):
        left, low, right, high = right, high, left, low
    strict = kind in ("LT", "GT")
    if right and not left:  # low < variable + high
        require(list(right.values()) == [1])
        return [(next(iter(right)), low - high + strict, ENDLESS)]
    require(list(left.values()) == [1] and not right)
    return [(next(iter(left)), -ENDLESS, high - low + (not strict))]


def _factors(block: Any) -> tuple[Any, Any]:
    """Reads of the images and of the weights."""
    store = block.body
    require(type(store).__name__ == "BufferStore" and type(store.value).__name__ == "Add")
    product = store.value.b
    require(type(product).__name__ == "Mul")
    loads = [uncast(product.a), uncast(product.b)]
    require(all(len(load.indices) == 4 for load in loads))
    return loads[0], loads[1]


def _single(index: Any) -> str:
    """The variable that an index is."""
    require(type(index).__name__ == "Var")
    return str(index.name)

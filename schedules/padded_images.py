"""Reads a block that puts zeros around images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schedules.affine import affine
from schedules.nest_parts import require, shape_of, single


@dataclass(frozen=True, slots=True)
class Padded:
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
    def none(source: Any) -> Padded:
        """The images are read as they are."""
        return Padded(source, source, (0, 0, 0, 0))

    @staticmethod
    def of(block: Any) -> Padded:
        """What a block that pads, or merely copies, stands for."""
        store = block.body
        require(type(store).__name__ == "BufferStore" and len(store.indices) == 4)
        condition, load = _guarded(store.value)
        require(type(load).__name__ == "TensorLoad" and len(load.indices) == 4)
        require(str(load.source.dtype) == str(store.buffer.dtype))
        names = [single(index) for index in store.indices]
        before = []
        for name, index in zip(names, load.indices, strict=True):
            steps, start = affine(index)
            require(steps == {name: 1} and start <= 0)
            before.append(-start)
        padded = Padded(store.buffer, load.source, tuple(before))
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

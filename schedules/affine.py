"""Positions in a buffer as sums of axes times constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Axes = Mapping[str, int]


class NotAffine(Exception):
    """A position is not such a sum."""


def linear(shape: Sequence[int], indices: Sequence[Any], axes: Axes) -> tuple[dict[str, int], int]:
    """Steps, in elements of a dense buffer, of every axis, and the constant part.

    Args:
        shape: Extents of the buffer.
        indices: One TIR expression per dimension.
        axes: Extents of the axes; those of extent 1 are always zero and are left out.

    Raises:
        NotAffine: An index is something else, or names another variable.
    """
    steps: dict[str, int] = {}
    offset, stride = 0, 1
    for extent, index in zip(reversed(shape), reversed(list(indices)), strict=True):
        parts, constant = affine(index)
        offset += constant * stride
        for name, factor in parts.items():
            if name not in axes:
                raise NotAffine
            if axes[name] > 1 and factor:
                steps[name] = steps.get(name, 0) + factor * stride
        stride *= extent
    return steps, offset


def affine(index: Any) -> tuple[dict[str, int], int]:
    """An index as steps of its variables and a constant.

    Raises:
        NotAffine: It is something else.
    """
    kind = type(index).__name__
    if kind == "IntImm":
        return {}, int(index)
    if kind == "Var":
        return {str(index.name): 1}, 0
    if kind == "Cast":
        return affine(index.value)
    if kind in ("Add", "Sub", "Mul"):
        return _combined(kind, affine(index.a), affine(index.b))
    raise NotAffine


def _combined(
    kind: str, one: tuple[dict[str, int], int], two: tuple[dict[str, int], int]
) -> tuple[dict[str, int], int]:
    if kind == "Mul":
        if one[0] and two[0]:
            raise NotAffine
        factor, other = (one[1], two) if not one[0] else (two[1], one)
        return {name: step * factor for name, step in other[0].items()}, other[1] * factor
    sign = -1 if kind == "Sub" else 1
    steps = dict(one[0])
    for name, step in two[0].items():
        steps[name] = steps.get(name, 0) + sign * step
    return steps, one[1] + sign * two[1]

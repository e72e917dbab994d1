"""Inputs of operators that merge rows, checked: kernels read where they are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from effcompile.frontend.converters.registry import Node
from effcompile.frontend.kernels.marking import type_of


def indices(node: Node, place: int, length: int | None = None) -> Any:
    """An input of row numbers or counts as int32, ``length`` of them where that is known.

    Raises:
        ValueError: It holds something else, or another number.
    """
    value = node.required(place)
    shape, dtype = type_of(value)
    if dtype not in ("int32", "int64"):
        raise ValueError(f"input {place} holds {dtype}, expected int32 or int64")
    _check_length(place, shape, length)
    return as_dtype(node, value, "int32")


def numbers(node: Node, place: int, length: int | None = None) -> Any:
    """An input of numbers as float32; see :func:`indices`."""
    value = node.required(place)
    shape, dtype = type_of(value)
    if "float" not in dtype:
        raise ValueError(f"input {place} holds {dtype}, expected floats")
    _check_length(place, shape, length)
    return as_dtype(node, value, "float32")


def _check_length(place: int, shape: Sequence[Any], length: int | None) -> None:
    fits = len(shape) == 1 and isinstance(shape[0], int) and length in (None, shape[0])
    if not fits:
        wanted = "one fixed dimension" if length is None else f"shape [{length}]"
        raise ValueError(f"input {place} has shape {list(shape)}, expected {wanted}")


def as_dtype(node: Node, value: Any, dtype: str) -> Any:
    """The value, cast where it has another dtype."""
    from tvm import relax

    return value if type_of(value)[1] == dtype else node.emit(relax.op.astype(value, dtype))


def check_alike(node: Node, axis: int) -> None:
    """Refuse a second input whose rows along an axis have not the first one's shape and dtype.

    Raises:
        ValueError: Says what was found.
    """
    (one, dtype), (other, other_dtype) = (type_of(node.required(place)) for place in (0, 1))
    wanted = [*other[:axis], one[axis], *other[axis + 1 :]] if len(other) == len(one) else other
    if dtype != other_dtype or wanted != one:
        raise ValueError(
            f"its first inputs must have the same dtype, and shape apart from axis {axis}: found "
            f"{one} {dtype}, {other} {other_dtype}"
        )

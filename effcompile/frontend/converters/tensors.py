"""Small steps that several converters share: layouts, slices, dtypes."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.constants import constant_array
from effcompile.frontend.converters.registry import Node
from effcompile.frontend.kernels.marking import type_of


def split_heads(node: Node, x: Any, n_heads: int) -> Any:
    """Shape (batch, tokens, heads * width) to (batch, heads, tokens, width).

    Raises:
        ValueError: The heads do not divide the last axis.
    """
    from tvm import relax

    batch, tokens, hidden = type_of(x)[0]
    if hidden % n_heads:
        raise ValueError(f"width {hidden} cannot be divided among {n_heads} heads")
    parts = node.emit(relax.op.reshape(x, (batch, tokens, n_heads, hidden // n_heads)))
    return node.emit(relax.op.permute_dims(parts, [0, 2, 1, 3]))


def join_heads(node: Node, x: Any) -> Any:
    """Shape (batch, heads, tokens, width) to (batch, tokens, heads * width)."""
    from tvm import relax

    batch, n_heads, tokens, width = type_of(x)[0]
    moved = node.emit(relax.op.permute_dims(x, [0, 2, 1, 3]))
    return node.emit(relax.op.reshape(moved, (batch, tokens, n_heads * width)))


def slice_axis(node: Node, x: Any, axis: int, begin: int, end: int) -> Any:
    """Elements ``begin`` to ``end`` (excluded) of one axis."""
    from tvm import relax

    return node.emit(relax.op.strided_slice(x, [axis], [begin], [end]))


def static_extent(x: Any, axis: int) -> int | None:
    """Length of one axis, ``None`` if it is open or ``x`` is no tensor of known rank."""
    if not hasattr(x.ty, "dtype") or getattr(x.ty.shape, "values", None) is None:
        return None
    extent = type_of(x)[0][axis]
    return extent if isinstance(extent, int) else None


def concat(node: Node, parts: list[Any], axis: int) -> Any:
    """Parts one after another along an axis."""
    from tvm import relax

    return node.emit(relax.op.concat(parts, axis=axis))


def with_rank(node: Node, x: Any, rank: int) -> Any:
    """The tensor with axes of extent 1 put in front until it has the given rank."""
    from tvm import relax

    shape, dtype = type_of(x)
    if len(shape) >= rank:
        return x
    stored = constant_array(x)
    if stored is not None:
        return relax.const(stored.reshape(*[1] * (rank - len(shape)), *shape), dtype)
    return node.emit(relax.op.reshape(x, (*[1] * (rank - len(shape)), *shape)))


def outputs(node: Node, *values: Any) -> Any:
    """The outputs that the graph names, as the importer expects them.

    Raises:
        ValueError: The graph reads an output that is not computed.
    """
    from tvm import relax

    wanted = values[: node.n_outputs]
    missing = [index for index, value in enumerate(wanted) if value is None]
    if missing or node.n_outputs > len(values):
        raise ValueError(f"output {(missing or [len(values)])[0]} is not supported")
    return wanted[0] if len(wanted) == 1 else relax.Tuple(list(wanted))

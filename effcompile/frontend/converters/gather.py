"""``Gather`` that never reads outside of its data."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.constants import constant_array
from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.converters.tensors import slice_axis
from effcompile.frontend.kernels.marking import type_of


@converter("Gather")
def gather(node: Node) -> Any:
    """Rows of ``data`` by index; negative ones count from the end, ones beyond it read the edge.

    The stock importer trusts the indices: a token id beyond the vocabulary ends the process.
    """
    from tvm import relax

    data, indices = node.required(0), node.required(1)
    axis = int(node.attrs.get("axis", 0))
    extent, known = _static_extent(data, axis), constant_array(indices)
    both_known = constant_array(data) is not None and known is not None
    if extent is None or both_known or getattr(indices.ty, "dtype", None) is None:
        return node.stock()
    if known is not None and known.ndim == 0:
        return _one_of(node, data, axis, int(known) % extent if -extent <= known < extent else None)
    index_type = str(indices.ty.dtype)
    if index_type.startswith("int"):
        is_negative = node.emit(relax.op.less(indices, relax.const(0, index_type)))
        from_end = node.emit(relax.op.add(indices, relax.const(extent, index_type)))
        indices = node.emit(relax.op.where(is_negative, from_end, indices))
    return relax.op.take(data, indices, axis, mode="clip")


def _one_of(node: Node, data: Any, axis: int, place: int | None) -> Any:
    """One element of an axis, as a slice: it fuses with what reads it."""
    from tvm import relax

    if place is None:
        raise ValueError("the index lies outside of the axis")
    return relax.op.squeeze(slice_axis(node, data, axis, place, place + 1), [axis])


def _static_extent(data: Any, axis: int) -> int | None:
    if not hasattr(data.ty, "dtype") or getattr(data.ty.shape, "values", None) is None:
        return None
    extent = type_of(data)[0][axis]
    return extent if isinstance(extent, int) else None

"""``Gather`` that never reads outside of its data."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.constants import constant_array
from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.kernels.marking import type_of


@converter("Gather")
def gather(node: Node) -> Any:
    """Rows of ``data`` by index; negative ones count from the end, ones beyond it read the edge.

    The stock importer trusts the indices: a token id beyond the vocabulary ends the process.
    """
    from tvm import relax

    data, indices = node.required(0), node.required(1)
    extent = _static_extent(data, int(node.attrs.get("axis", 0)))
    both_known = constant_array(data) is not None and constant_array(indices) is not None
    if extent is None or both_known or getattr(indices.ty, "dtype", None) is None:
        return node.stock()
    index_type = str(indices.ty.dtype)
    if index_type.startswith("int"):
        is_negative = node.emit(relax.op.less(indices, relax.const(0, index_type)))
        from_end = node.emit(relax.op.add(indices, relax.const(extent, index_type)))
        indices = node.emit(relax.op.where(is_negative, from_end, indices))
    return relax.op.take(data, indices, int(node.attrs.get("axis", 0)), mode="clip")


def _static_extent(data: Any, axis: int) -> int | None:
    if not hasattr(data.ty, "dtype") or getattr(data.ty.shape, "values", None) is None:
        return None
    extent = type_of(data)[0][axis]
    return extent if isinstance(extent, int) else None

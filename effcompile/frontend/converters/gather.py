"""``Gather`` that never reads outside of its data."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.constants import constant_array
from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.converters.tensors import static_extent


@converter("Gather")
def gather(node: Node) -> Any:
    """Rows of ``data`` by index; negative ones count from the end, ones beyond it read the edge.

    The stock importer trusts the indices: a token id beyond the vocabulary ends the process. One
    constant index is a slice, which fusion takes into whatever reads it.
    """
    from tvm import relax

    data, indices = node.required(0), node.required(1)
    axis = int(node.attrs.get("axis", 0))
    extent, known = static_extent(data, axis), constant_array(indices)
    both_known = constant_array(data) is not None and known is not None
    if extent is None or both_known or getattr(indices.ty, "dtype", None) is None:
        return node.stock()
    if known is not None and known.ndim == 0:
        first = min(max(int(known) + (extent if known < 0 else 0), 0), extent - 1)
        one = node.emit(relax.op.strided_slice(data, [axis], [first], [first + 1]))
        return relax.op.squeeze(one, [axis])
    index_type = str(indices.ty.dtype)
    if index_type.startswith("int"):
        is_negative = node.emit(relax.op.less(indices, relax.const(0, index_type)))
        from_end = node.emit(relax.op.add(indices, relax.const(extent, index_type)))
        indices = node.emit(relax.op.where(is_negative, from_end, indices))
    return relax.op.take(data, indices, axis, mode="clip")

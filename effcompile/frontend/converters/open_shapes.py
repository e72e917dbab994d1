"""Operators on open dimensions that the stock importer takes for fixed ones."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.constants import constant_array
from effcompile.frontend.converters.registry import Node, converter


@converter("Expand")
def expand(node: Node) -> Any:
    """Broadcasting to a constant shape; an extent of 1 there leaves the input's, open or not."""
    from tvm import relax

    data, wanted = node.required(0), constant_array(node.required(1))
    extents = list(getattr(getattr(data.ty, "shape", None), "values", None) or ())
    if wanted is None or all(_is_fixed(extent) for extent in extents):
        return node.stock()
    targets = [int(extent) for extent in wanted]
    n_dims = max(len(targets), len(extents))
    targets = [1] * (n_dims - len(targets)) + targets
    extents = [1] * (n_dims - len(extents)) + extents
    shape = [
        target if _is_one(extent) else extent
        for target, extent in zip(targets, extents, strict=True)
    ]
    return relax.op.broadcast_to(data, relax.ShapeExpr(shape))


@converter("Reshape")
def reshape(node: Node) -> Any:
    """A single extent as a list of one is the start of a shape."""
    from tvm import relax

    data, wanted = node.required(0), constant_array(node.required(1))
    is_extent = hasattr(data.ty, "dtype") and not hasattr(data.ty, "shape")
    if is_extent and wanted is not None and wanted.tolist() in ([-1], [1]):
        return relax.ShapeExpr([data])
    return node.stock()


def _is_fixed(extent: Any) -> bool:
    return isinstance(extent, int) or hasattr(extent, "value")


def _is_one(extent: Any) -> bool:
    return _is_fixed(extent) and int(extent) == 1

"""``effcompile::LastRowImportance``: the attention that the last query pays to every key.

Inputs query (batch, heads, queries, width) and key (batch, key heads, keys, width); attribute
``scale`` (optional); output float32 (batch, keys), the mean over query heads of the softmax weights
of the last query. With the attention that it stands beside, the second output that FrameFusion
ranks tokens by; the attention itself stays one standard node.
"""

from __future__ import annotations

from typing import Any

from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.kernels.importance import importance_call
from effcompile.frontend.kernels.marking import type_of


@converter("LastRowImportance", domain="effcompile")
def last_row_importance(node: Node) -> Any:
    """One function beside the attention."""
    query, key = node.required(0), node.required(1)
    shapes = (type_of(query)[0], type_of(key)[0])
    if any(len(shape) != 4 for shape in shapes):
        raise ValueError(f"query and key must be (batch, heads, tokens, width), found {shapes}")
    if not all(isinstance(extent, int) for shape in shapes for extent in shape):
        raise ValueError(f"its inputs have open dimensions {shapes}: fix them with --shape")
    asked, keys = shapes
    if asked[0] != keys[0] or asked[3] != keys[3] or asked[1] % keys[1]:
        raise ValueError(
            f"queries and keys must agree, and key heads divide query heads: found {shapes}"
        )
    scale = node.attrs.get("scale")
    if scale is not None and float(scale) <= 0:
        raise ValueError(f"scale is {scale}, expected a positive number")
    return importance_call(node.builder, query, key, scale=None if scale is None else float(scale))

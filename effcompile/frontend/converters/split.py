"""``Split`` as one slice per part: fusion takes each into whatever reads it."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

from effcompile.frontend.constants import constant_array
from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.converters.tensors import outputs, slice_axis, static_extent
from effcompile.frontend.kernels.marking import type_of


@converter("Split")
def split(node: Node) -> Any:
    """Parts of ``data`` along an axis, of given lengths or of equal ones, the last perhaps less."""
    data, axis = node.required(0), int(node.attrs.get("axis", 0))
    extent = static_extent(data, axis)
    lengths = None if extent is None else _lengths(node, extent)
    if lengths is None:
        return node.stock()
    if sum(lengths) != extent or min(lengths) < 0:
        raise ValueError(f"parts of {lengths} do not make up {extent} elements")
    axis %= len(type_of(data)[0])
    ends = pairwise(accumulate(lengths, initial=0))
    return outputs(node, *(slice_axis(node, data, axis, begin, end) for begin, end in ends))


def _lengths(node: Node, extent: int) -> list[int] | None:
    """Of every part, ``None`` if they are not known."""
    given = node.input(1)
    if given is not None:
        known = constant_array(given)
        return None if known is None else [int(one) for one in known.reshape(-1)]
    if "split" in node.attrs:
        return [int(one) for one in node.attrs["split"]]
    length = -(-extent // node.n_outputs)
    return [min(length, extent - i * length) for i in range(node.n_outputs)]

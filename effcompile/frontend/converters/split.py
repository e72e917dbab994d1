"""``Split`` as slices, which fuse with what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from effcompile.frontend.constants import constant_array
from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.converters.tensors import slice_axis
from effcompile.frontend.kernels.marking import type_of


@converter("Split")
def split(node: Node) -> Any:
    """Parts of an axis; of equal sizes, the last one smaller, where none are given."""
    from tvm import relax

    x = node.required(0)
    shape = type_of(x)[0] if getattr(x.ty, "shape", None) is not None else []
    axis = int(node.attrs.get("axis", 0))
    sizes = _sizes(node)
    if not shape or not isinstance(shape[axis], int) or (node.input(1) and sizes is None):
        return node.stock()
    total = shape[axis]
    if sizes is None:
        each = -(-total // node.n_outputs)
        sizes = [max(0, min(each, total - i * each)) for i in range(node.n_outputs)]
    if sum(sizes) != total or len(sizes) != node.n_outputs:
        raise ValueError(f"parts of {list(sizes)} do not make up the {total} elements of an axis")
    ends = pairwise(accumulate(sizes, initial=0))
    return relax.Tuple([slice_axis(node, x, axis, begin, end) for begin, end in ends])


def _sizes(node: Node) -> Sequence[int] | None:
    """Sizes that the node gives; ``None`` if it gives none, or none that are constant."""
    if "split" in node.attrs:
        return [int(size) for size in node.attrs["split"]]
    given = None if node.input(1) is None else constant_array(node.input(1))
    return None if given is None else [int(size) for size in given.reshape(-1)]

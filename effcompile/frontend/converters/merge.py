"""Operators of the domain ``effcompile`` that merge rows along an axis.

==================  ==========================================================================
``FrameCosine``     x (rows, width) [, previous (rows)], attribute ``places`` -> (rows)
``ChainSegments``   cosine (rows), threshold (1) [, previous (rows)] [, most (1)], attributes
                    ``places``, ``groups`` -> rows, starts (groups + 1), first rows (groups),
                    number of segments (1)
``PreviousRows``    place (rows) -> rows (rows)
``TopRows``         scores (rows), count (1), attribute ``groups`` -> rows (groups)
``SegmentMean``     x, starts (groups + 1) [, rows], attributes ``axis``, ``longest``
``GatherRows``      x, index (groups), attribute ``axis``
``BlendRows``       x, low, high, weight (groups), attribute ``axis``
``RenoiseRows``     noise, clean, index (groups), sigma (1), attribute ``axis``
``SelectRows``      fresh, cache, source (rows of fresh), attribute ``axis``
``CombinePartials`` parts (splits, ..., width), sums (splits, ...) -> rows, logarithms
==================  ==========================================================================

Meaning: see ``effcompile.frontend.kernels.merge``. Index inputs may be int32 or int64.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from effcompile.frontend.converters.merge_inputs import as_dtype, check_alike, indices, numbers
from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.kernels import merge
from effcompile.frontend.kernels.chain_segments import (
    chain_segments_call,
    previous_rows_call,
    top_rows_call,
)
from effcompile.frontend.kernels.marking import type_of


def _axis(node: Node, x: Any) -> int:
    rank = len(type_of(x)[0])
    axis = int(node.attrs.get("axis", 0))
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} does not exist: the input has {rank} axes")
    return axis % rank


def _flattened(node: Node, x: Any, axis: int) -> Any:
    """``x`` as (repetitions, rows, width)."""
    from tvm import relax

    shape = type_of(x)[0]
    if not all(isinstance(extent, int) for extent in shape):
        raise ValueError(f"its input has open dimensions {shape}: fix them with --shape")
    flat = [prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])]
    return x if shape == flat else node.emit(relax.op.reshape(x, flat))


def _along(node: Node, operands: list[Any], call: Callable[..., Any]) -> Any:
    """``call`` on operands flattened around the axis, its result in the first one's layout."""
    from tvm import relax

    x = operands[0]
    axis = _axis(node, x)
    shape = type_of(x)[0]
    result = node.emit(call(*(_flattened(node, one, axis) for one in operands)))
    groups = type_of(result)[0][1]
    wanted = [*shape[:axis], groups, *shape[axis + 1 :]]
    return result if type_of(result)[0] == wanted else relax.op.reshape(result, wanted)


@converter("FrameCosine", domain="effcompile")
def frame_cosine(node: Node) -> Any:
    """Cosine of every row with the one before it in time."""
    x, previous = node.required(0), node.input(1)
    places = int(node.attrs.get("places", 0))
    if (previous is None) == (places <= 0):
        raise ValueError("give either the attribute places, at least 1, or the input previous")
    if len(type_of(x)[0]) != 2:
        raise ValueError(f"its input must be (rows, width), found {type_of(x)[0]}")
    mates = None if previous is None else indices(node, 1, type_of(x)[0][0])
    return merge.frame_cosine_call(node.builder, x, places=places, previous=mates)


@converter("ChainSegments", domain="effcompile")
def chain_segments(node: Node) -> Any:
    """Rows that follow each other in time closely enough, as segments to be averaged."""
    from tvm import relax

    cosine, threshold = numbers(node, 0), numbers(node, 1, 1)
    n_rows = type_of(cosine)[0][0]
    previous = None if node.input(2) is None else indices(node, 2, n_rows)
    most = None if node.input(3) is None else indices(node, 3, 1)
    places, groups = int(node.attrs.get("places", 0)), _groups(node, cosine)
    if (previous is None) == (places <= 0):
        raise ValueError("give either the attribute places, at least 1, or the input previous")
    found = node.emit(
        chain_segments_call(
            node.builder,
            cosine,
            threshold,
            groups=groups,
            places=places,
            previous=previous,
            most=most,
        )
    )
    return relax.Tuple([node.emit(found[i]) for i in range(4)])


@converter("PreviousRows", domain="effcompile")
def previous_rows(node: Node) -> Any:
    """The nearest row before each that has the same place in its frame."""
    return previous_rows_call(node.builder, indices(node, 0))


@converter("TopRows", domain="effcompile")
def top_rows(node: Node) -> Any:
    """The rows of the largest scores, in their order."""
    scores, count = numbers(node, 0), indices(node, 1, 1)
    return top_rows_call(node.builder, scores, count, groups=_groups(node, scores))


def _groups(node: Node, values: Any) -> int:
    """The attribute, which tells the room for results."""
    n_rows = type_of(values)[0][0]
    groups = int(node.attrs.get("groups", 0))
    if not 1 <= groups <= n_rows:
        raise ValueError(
            f"groups is {groups}: expected 1 to {n_rows}, as many as there may be results"
        )
    return groups


@converter("SegmentMean", domain="effcompile")
def segment_mean(node: Node) -> Any:
    """Mean of each segment of rows along ``axis``."""
    starts, listed = indices(node, 1), None if node.input(2) is None else indices(node, 2)
    longest, n_starts = int(node.attrs.get("longest", 0)), type_of(starts)[0][0]
    if longest < 0 or n_starts < 2:
        raise ValueError(
            f"longest is {longest} and starts are {n_starts}: expected rows of the longest "
            "segment, or 0, and the start of every segment and the end of the last"
        )
    return _along(
        node,
        [node.required(0)],
        lambda x: merge.segment_mean_call(node.builder, x, starts, rows=listed, longest=longest),
    )


@converter("GatherRows", domain="effcompile")
def gather_rows(node: Node) -> Any:
    """Rows along ``axis`` by index."""
    index = indices(node, 1)
    return _along(
        node, [node.required(0)], lambda x: merge.gather_rows_call(node.builder, x, index)
    )


@converter("BlendRows", domain="effcompile")
def blend_rows(node: Node) -> Any:
    """Two rows along ``axis`` and a weight."""
    low = indices(node, 1)
    n_groups = type_of(low)[0][0]
    high, weight = indices(node, 2, n_groups), numbers(node, 3, n_groups)
    return _along(
        node,
        [node.required(0)],
        lambda x: merge.blend_rows_call(node.builder, x, low, high, weight),
    )


@converter("RenoiseRows", domain="effcompile")
def renoise_rows(node: Node) -> Any:
    """Kept rows with noise added again."""
    axis = _axis(node, node.required(0))
    check_alike(node, axis)
    index, sigma = indices(node, 2, type_of(node.required(1))[0][axis]), numbers(node, 3, 1)
    return _along(
        node,
        [node.required(0), node.required(1)],
        lambda noise, clean: merge.renoise_rows_call(node.builder, noise, clean, index, sigma),
    )


@converter("SelectRows", domain="effcompile")
def select_rows(node: Node) -> Any:
    """Rows along ``axis``, some of them from a cache."""
    axis = _axis(node, node.required(0))
    check_alike(node, axis)
    source = indices(node, 2, type_of(node.required(0))[0][axis])
    return _along(
        node,
        [node.required(0), node.required(1)],
        lambda fresh, cache: merge.select_rows_call(node.builder, fresh, cache, source),
    )


@converter("CombinePartials", domain="effcompile")
def combine_partials(node: Node) -> Any:
    """Attention over parts of the keys, combined."""
    from tvm import relax

    parts, sums = node.required(0), node.required(1)
    shape = type_of(parts)[0]
    if len(shape) < 2 or type_of(sums)[0] != shape[:-1] or "float" not in type_of(sums)[1]:
        raise ValueError(
            f"sums must be floats of the shape of parts without their last axis, found "
            f"{type_of(sums)} beside {shape}"
        )
    flat = [shape[0], prod(shape[1:-1]), shape[-1]]
    rows = parts if shape == flat else node.emit(relax.op.reshape(parts, flat))
    logs = node.emit(relax.op.reshape(as_dtype(node, sums, "float32"), flat[:2]))
    both = node.emit(merge.combine_partials_call(node.builder, rows, logs))
    result = node.emit(relax.op.reshape(node.emit(both[0]), shape[1:]))
    total = node.emit(relax.op.reshape(node.emit(both[1]), shape[1:-1]))
    return relax.Tuple([result, total])

"""Sums along rows of memory, shared by the threads of a block.

TVM's fallback gives a whole sum to one thread. Where the summed axis is the innermost of what is
read, neighbouring threads would then read far apart; here they read neighbours and add up together.
"""

from __future__ import annotations

from math import prod
from typing import Any

from schedules.analysis import (
    REDUCTION,
    SPATIAL,
    axis_kinds,
    constant_extent,
    is_bound,
    leaf_blocks,
    new_schedule,
)

THREADS = 128
FEWEST_TERMS = 256
COMBINED = ("Add", "Max", "Min")


def share_rows(function: Any) -> Any | None:
    """A schedule that binds such sums and leaves all else to be bound; ``None`` without any."""
    from tvm.s_tir.dlight.analysis import normalize_prim_func
    from tvm.s_tir.dlight.base import try_inline

    schedule = new_schedule(function)
    blocks = normalize_prim_func(schedule)
    if blocks is None:
        return None
    try_inline(schedule, blocks)
    rows = [block for block in leaf_blocks(schedule) if _adds_up_rows(schedule, block)]
    for block in rows:
        _share(schedule, block)
    return schedule if rows else None


def _adds_up_rows(schedule: Any, block: Any) -> bool:
    kinds = axis_kinds(schedule, block)
    loops = schedule.get_loops(block)
    if is_bound(schedule, block) or len(kinds) != len(loops) or set(kinds) != {SPATIAL, REDUCTION}:
        return False
    found = schedule.get(block)
    reduced = [axis for axis in found.iter_vars if int(axis.iter_type) == REDUCTION]
    extents = [constant_extent(axis.dom.extent) for axis in reduced]
    if None in extents or prod(one for one in extents if one) < FEWEST_TERMS:
        return False
    if not _is_plain(found.body):
        return False
    innermost = [read.region[-1].min for read in found.reads if len(read.region)]
    return any(index.same_as(reduced[-1].var) for index in innermost)


def _is_plain(store: Any) -> bool:
    """Whether a step is ``x = x + term`` or alike, as the lowering of shared sums wants it."""
    if type(store).__name__ != "BufferStore" or type(store.value).__name__ not in COMBINED:
        return False
    old = store.value.a
    return type(old).__name__ == "TensorLoad" and bool(old.source.same_as(store.buffer))


def _share(schedule: Any, block: Any) -> None:
    kinds, loops = axis_kinds(schedule, block), list(schedule.get_loops(block))
    results = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == SPATIAL]
    terms = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == REDUCTION]
    schedule.reorder(*results, *terms)
    schedule.bind(schedule.fuse(*results), "blockIdx.x")
    _, neighbours = schedule.split(schedule.fuse(*terms), [None, THREADS])
    schedule.bind(neighbours, "threadIdx.x")

"""A safe schedule for CPUs: outer loops in parallel, one inner loop in vectors.

Every step is optional. A step that the schedule refuses is left out, so the result
is legal for any function, also for one with run-time extents or opaque blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schedules.analysis import (
    REDUCTION,
    SPATIAL,
    axis_kinds,
    constant_extent,
    leaf_blocks,
    new_schedule,
)

VECTOR_LANES = 16
ROWS_IN_REGISTERS = 4
SMALLEST_PARALLEL_WORK = 4096


def cpu_schedule(function: Any) -> Any:
    """The function with its nests parallel and vectorised where that is legal."""
    schedule = new_schedule(function)
    for block in list(leaf_blocks(schedule)):
        _attempt(lambda block=block: _schedule_block(schedule, block))  # type: ignore[misc]
    return schedule.mod["main"]


def _attempt(step: Callable[[], None]) -> None:
    """Take a step if the schedule allows it; a refused primitive leaves the program as it was."""
    try:
        step()
    except (RuntimeError, ValueError):  # schedule errors and internal checks alike
        return


def _schedule_block(schedule: Any, block: Any) -> None:
    kinds = axis_kinds(schedule, block)
    loops = list(schedule.get_loops(block))
    if not loops or len(kinds) != len(loops) or set(kinds) - {SPATIAL, REDUCTION}:
        return
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == SPATIAL]
    reduction = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == REDUCTION]
    if not spatial:
        return
    if reduction:
        _schedule_reduction(schedule, block, spatial, reduction)
    else:
        _schedule_map(schedule, spatial)


def _schedule_map(schedule: Any, spatial: list[Any]) -> None:
    fused = schedule.fuse(*spatial)
    extent = constant_extent(schedule.get(fused).extent)
    outer, inner = schedule.split(fused, [None, VECTOR_LANES])
    if extent is None or extent >= SMALLEST_PARALLEL_WORK:
        _attempt(lambda: schedule.parallel(outer))
    if extent is not None and extent % VECTOR_LANES == 0:
        _attempt(lambda: schedule.vectorize(inner))


def _schedule_reduction(
    schedule: Any, block: Any, spatial: list[Any], reduction: list[Any]
) -> None:
    """Keep a small tile of results in registers while the reduction runs over it."""
    *outer, last = spatial
    last_outer, lanes = schedule.split(last, [None, _tile(schedule, last, VECTOR_LANES)])
    inner = [lanes]
    if outer:
        row_outer, rows = schedule.split(
            outer[-1], [None, _tile(schedule, outer[-1], ROWS_IN_REGISTERS)]
        )
        outer, inner = [*outer[:-1], row_outer], [rows, lanes]
    schedule.reorder(*outer, last_outer, *reduction, *inner)
    fused = schedule.fuse(*outer, last_outer)
    _attempt(lambda: _accumulate_locally(schedule, block, fused))
    schedule.decompose_reduction(block, reduction[0])
    _attempt(lambda: schedule.parallel(fused))
    if outer:
        _attempt(lambda: schedule.unroll(inner[0]))
    _attempt(lambda: schedule.vectorize(lanes))


def _accumulate_locally(schedule: Any, block: Any, tile: Any) -> None:
    result = schedule.cache_write(block, 0, "local")
    schedule.reverse_compute_at(result, tile)


def _tile(schedule: Any, loop: Any, wanted: int) -> int:
    """The largest divisor of the extent up to ``wanted``; ``wanted`` if unknown."""
    extent = constant_extent(schedule.get(loop).extent)
    if extent is None:
        return wanted
    return max(size for size in range(1, wanted + 1) if extent % size == 0)

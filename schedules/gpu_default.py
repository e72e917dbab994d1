"""A bound schedule for every function on a CUDA target.

TVM's default rules come first. They refuse some functions and leave nests of others
unbound, which would fail only when the library is built; such nests are bound here.
"""

from __future__ import annotations

from typing import Any

from schedules import _tvm
from schedules.analysis import (
    SPATIAL,
    axis_kinds,
    launches_threads,
    new_schedule,
    unbound_nests,
)
from schedules.programs import private_copy
from schedules.shared_rows import share_rows
from schedules.target import Target

THREADS = 256


def gpu_schedule(function: Any, target: Target) -> Any:
    """The function with every nest bound to GPU threads.

    The first of these whose nests are all bound: the schedule of TVM's rules, that
    schedule with its unbound nests bound, and the plain function bound nest by nest. A
    function that launches threads by itself, as TVM's scatter does, stays as it is.
    """
    if launches_threads(function):
        return function
    by_rules = _schedule_by_rules(function, target)
    if by_rules is not None and _bind_rest(by_rules):
        return by_rules.mod["main"]
    plain = new_schedule(function)
    _bind_rest(plain)
    return plain.mod["main"]


def _schedule_by_rules(function: Any, target: Target) -> Any | None:
    """What the first matching default rule makes of a function, ``None`` if all refuse."""
    _tvm.load_intrinsics("cuda")  # rules for products name them
    from tvm.s_tir import dlight as dl

    tvm_target = _tvm.tvm_target(target)
    rules = (
        dl.gpu.Matmul().apply,
        dl.gpu.GEMV().apply,
        dl.gpu.Reduction().apply,
        dl.gpu.GeneralReduction().apply,
        dl.gpu.Transpose().apply,
        lambda copy, *_: share_rows(copy),
        dl.gpu.Fallback().apply,
    )
    for apply in rules:
        try:
            with tvm_target:
                found = apply(private_copy(function), tvm_target, False)
                schedule = found[0] if isinstance(found, list | tuple) else found
                if schedule is not None:
                    _check_reductions(schedule.mod)
                    return schedule
        # A rule written for another shape of program fails in its own ways: assertions,
        # missing attributes, schedule errors. The next rule is the answer to all of them.
        except (RuntimeError, AssertionError, *_PYTHON_ERRORS):
            continue
    return None


def _check_reductions(module: Any) -> None:
    """Raise for a reduction over threads that later code generation would refuse."""
    _tvm.load().s_tir.transform.LowerCrossThreadReduction()(module)


_PYTHON_ERRORS = (AttributeError, IndexError, KeyError, TypeError, ValueError)


def _bind_rest(schedule: Any) -> bool:
    """Bind every unbound nest; false if one of them could not be bound."""
    for nest in unbound_nests(schedule):
        _bind_nest(schedule, nest)
    return not unbound_nests(schedule)


def _bind_nest(schedule: Any, block: Any) -> None:
    """One thread per result; a nest without parallel loops runs in a single thread."""
    try:
        spatial = _leading_parallel_loops(schedule, block)
        fused = schedule.fuse(*spatial) if spatial else _unit_loop(schedule, block)
        blocks, threads = schedule.split(fused, [None, THREADS])
        schedule.bind(blocks, "blockIdx.x")
        schedule.bind(threads, "threadIdx.x")
    except RuntimeError:  # schedule errors and internal checks alike
        schedule.bind(_unit_loop(schedule, block), "threadIdx.x")


def _unit_loop(schedule: Any, block: Any) -> Any:
    loops = list(schedule.get_loops(block))
    return schedule.add_unit_loop(loops[0] if loops else block)


def _leading_parallel_loops(schedule: Any, block: Any) -> list[Any]:
    """Loops that belong to spatial axes, moved outside those of reductions."""
    kinds = axis_kinds(schedule, block)
    loops = list(schedule.get_loops(block))
    if len(kinds) != len(loops):
        return []
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == SPATIAL]
    rest = [loop for loop, kind in zip(loops, kinds, strict=True) if kind != SPATIAL]
    if spatial and rest:
        schedule.reorder(*spatial, *rest)
    return spatial

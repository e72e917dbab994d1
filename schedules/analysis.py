"""Small questions about TVM functions: bindings, loops, reduction lengths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from schedules import _tvm
from schedules.programs import normalised, private_copy

THREAD_BINDING = 4
SPATIAL, REDUCTION = 0, 2
SCHEDULED = "tirx.is_scheduled"


def is_scheduled(function: Any) -> bool:
    """Whether somebody declared the function's schedule as final."""
    attrs = function.attrs
    return attrs is not None and SCHEDULED in attrs and bool(attrs[SCHEDULED])


def constant_extent(extent: Any) -> int | None:
    """The value of a loop or axis extent, ``None`` if it is known at run time only."""
    tvm = _tvm.load()
    return int(extent) if isinstance(extent, int | tvm.tirx.IntImm) else None


def new_schedule(function: Any) -> Any:
    """A schedule of a copy of one function under the name ``main``, with a fixed seed."""
    tvm = _tvm.load()
    module = tvm.IRModule({"main": _with_root(normalised(private_copy(function)))})
    return tvm.s_tir.Schedule(module, seed=1, debug_mask="none", error_render_level="none")


def _with_root(function: Any) -> Any:
    """Give a program that is one opaque block the root block that scheduling needs."""
    from tvm.s_tir import SBlock, SBlockRealize

    if str(function.body.block.name_hint) == "root":
        return function
    root = SBlock([], [], [], "root", function.body)
    return function.with_body(SBlockRealize([], True, root))


def leaf_blocks(schedule: Any) -> Iterator[Any]:
    """Every block that holds no other block, in program order."""
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        yield from _leaves(schedule, block)


def _leaves(schedule: Any, block: Any) -> Iterator[Any]:
    children = list(schedule.get_child_blocks(block))
    if not children:
        yield block
    for child in children:
        yield from _leaves(schedule, child)


def axis_kinds(schedule: Any, block: Any) -> list[int]:
    """Kinds of a block's axes: :data:`SPATIAL`, :data:`REDUCTION`, or another number."""
    return [int(axis.iter_type) for axis in schedule.get(block).iter_vars]


def is_bound(schedule: Any, block: Any) -> bool:
    """Whether a block, or everything inside it, runs under a GPU thread or block index."""
    loops = schedule.get_loops(block)
    if any(int(schedule.get(loop).kind) == THREAD_BINDING for loop in loops):
        return True
    children = list(schedule.get_child_blocks(block))
    return bool(children) and all(is_bound(schedule, child) for child in children)


def launches_threads(function: Any) -> bool:
    """Whether a function binds GPU threads in its own body, where no schedule reaches."""
    return '"thread_extent"' in str(_tvm.load().ir.save_json(function))


def is_view(function: Any) -> bool:
    """Whether a function only gives its one argument another shape."""
    _tvm.load()
    from tvm.relax import analysis

    return len(function.params) == 2 and bool(analysis.has_reshape_pattern(function))


def has_open_shape(function: Any) -> bool:
    """Whether an extent of a parameter is known at run time only."""
    shapes = [getattr(parameter, "shape", [None]) for parameter in function.params]
    return any(not hasattr(extent, "value") for shape in shapes for extent in shape)


def unbound_nests(schedule: Any) -> list[Any]:
    """Outermost blocks that a GPU program would run on the host."""
    nests = schedule.get_child_blocks(schedule.get_sblock("root"))
    return [nest for nest in nests if not is_bound(schedule, nest)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduction:
    """One reduction nest of a program.

    Attributes:
        n_terms: Terms combined into one element.
        dtype: Type in which they are accumulated.
    """

    n_terms: int
    dtype: str


def reductions_of(function: Any) -> list[Reduction]:
    """Every reduction nest of a schedulable function, in program order."""
    schedule = new_schedule(function)
    found = [_reduction(schedule.get(block)) for block in leaf_blocks(schedule)]
    return [reduction for reduction in found if reduction is not None]


def _reduction(block: Any) -> Reduction | None:
    extents = [
        constant_extent(axis.dom.extent) or 1
        for axis in block.iter_vars
        if int(axis.iter_type) == REDUCTION
    ]
    if not extents:
        return None
    return Reduction(n_terms=prod(extents), dtype=str(block.writes[0].source.dtype))

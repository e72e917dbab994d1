"""Moves that several functions read, read through by each of them.

Queries, keys and values out of one product are often transposed first and taken apart then: TVM
leaves the transposition a kernel of its own, because three functions read it. Each can as well
read its part of the product. The move is gone if nothing else needs it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from effcompile.frontend.fused_calls import Calls, Group
from effcompile.frontend.joined_calls import in_one_block, join_calls, joined_function
from schedules.elementwise import ElementwiseSpace, elementwise_space
from schedules.programs import workload_of
from schedules.target import Target
from schedules.task import Task


def read_through_moves(target: Target) -> Any:
    """The pass, for modules of fused functions."""
    return join_calls("ReadThroughMoves", _groups, partial(_served, target), target)


def _groups(calls: Calls, variable: Any) -> list[Group]:
    """An elementwise call and the moves in front of it that it shares with others."""
    if not calls.is_elementwise(variable):
        return []
    moved = [each for one in calls.arguments(variable) for each in calls.moves_before(one)]
    return [] if all(map(calls.is_view, moved)) else [Group(calls, [*moved, variable])]


def _served(target: Target, group: Group) -> Any:
    """The group's function, ``None`` if it would read in narrower words than its last member."""
    function = in_one_block(joined_function(group))
    alone = in_one_block(group.calls.function_of(group.members[-1]))
    new, old = (_space(one, target) for one in (function, alone))
    if new is None or old is None or max(new.lanes) < max(old.lanes):
        return None
    return function


def _space(function: Any, target: Target) -> ElementwiseSpace | None:
    if function is None:
        return None
    workload = workload_of(function, name="read_through")
    return elementwise_space(Task(workload=workload, target=target))

"""Norms of rows in one function with the moves in front of them and what is done to them after.

::

    q = slice of the product; n = norm(q); y = heads before tokens of n, turned by their position

is four passes over memory where one is enough. Runs on fused functions, where one behind a norm
holds everything elementwise that TVM could fuse. Joint attention has it read several norms, of text
and of image tokens. Only what the ``head_norm`` family takes is joined.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from effcompile.frontend.fused_calls import Calls, Group
from effcompile.frontend.joined_calls import in_one_block, join_calls, joined_function
from effcompile.frontend.kernels.marking import marks_of, with_marks
from effcompile.frontend.kernels.norms import LAYER_NORM, RMS_NORM
from schedules.head_norm import head_norm_space
from schedules.head_norm_problem import HEAD_NORM
from schedules.programs import workload_of
from schedules.target import Target
from schedules.task import Task
from schedules.workload import Attribute

NORMS = (LAYER_NORM, RMS_NORM)


def join_norm_endings(target: Target) -> Any:
    """The pass, for modules of fused functions; it does nothing where the family does not serve."""
    return join_calls("JoinNormEndings", _groups, partial(_served, target), target)


def _groups(calls: Calls, variable: Any) -> list[Group]:
    """Calls that end in a variable, from moves before norms on, and perhaps before tables."""
    if _is_norm(calls, variable):
        moves = calls.moves_before(calls.arguments(variable)[0])
        return [] if all(map(calls.is_view, moves)) else [Group(calls, [*moves, variable])]
    if not calls.is_elementwise(variable):
        return []
    behind = _behind_norms(calls, variable)
    norms = [one for one in behind if _is_norm(calls, one)]
    if len({str(marks_of(calls.function_of(one))) for one in norms}) != 1:
        return []
    rows = [each for one in norms for each in calls.moves_before(calls.arguments(one)[0])]
    read = [one for member in behind for one in calls.arguments(member) if one not in behind]
    every = [each for one in read for each in calls.moves_before(one)]
    return [Group(calls, [*every, *behind]), Group(calls, [*rows, *behind])]


def _behind_norms(calls: Calls, variable: Any) -> list[Any]:
    """Norms of which a variable is made, and what is between, each read by nothing else."""
    found: list[Any] = []
    for one in calls.arguments(variable):
        if not calls.is_call(one) or calls.n_readers(one) > 1:
            continue
        if _is_norm(calls, one):
            found.append(one)
        elif calls.is_elementwise(one) and (before := _behind_norms(calls, one)):
            found += before
    return [*found, variable] if found else []


def _is_norm(calls: Calls, variable: Any) -> bool:
    if not calls.is_call(variable):
        return False
    op, attrs = marks_of(calls.function_of(variable))
    return op in NORMS and not (attrs.get("modulated") or attrs.get("residual"))


def _served(target: Target, group: Group) -> Any:
    """The group's function, ``None`` if the family does not take it."""
    calls = group.calls
    op, attrs = next(
        marks_of(calls.function_of(one)) for one in group.members if _is_norm(calls, one)
    )
    marks: dict[str, Attribute] = {"epsilon": float(attrs["epsilon"]), "centred": op == LAYER_NORM}
    inlined = in_one_block(joined_function(group), keep=NORMS)
    if inlined is None:
        return None
    function = with_marks(inlined, op=HEAD_NORM, attrs=marks)
    workload = workload_of(function, name=HEAD_NORM, op=HEAD_NORM, attrs=marks)
    space = head_norm_space(Task(workload=workload, target=target))
    return function if space is not None and space.is_widest else None

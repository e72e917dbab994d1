"""Calls of fused functions in a Relax function, and groups of them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from functools import cached_property
from typing import Any

from effcompile.frontend.kernels.marking import GENERIC, marks_of
from schedules.analysis import (
    has_open_shape,
    is_view,
    launches_threads,
    leaf_blocks,
    new_schedule,
)
from schedules.product_reading import is_reduction

LONGEST_NAME = 100
MEMBER, INPUT = "member", "input"


class Kind(Enum):
    """What a function does to one element after the other."""

    VIEW = auto()
    MOVE = auto()
    ELEMENTWISE = auto()
    OTHER = auto()


def _kind_of(function: Any) -> Kind:
    is_plain = marks_of(function)[0] == GENERIC and not has_open_shape(function)
    if not is_plain or launches_threads(function):
        return Kind.OTHER
    if is_view(function):
        return Kind.VIEW
    schedule = new_schedule(function)
    blocks = [schedule.get(block) for block in leaf_blocks(schedule)]
    if any(is_reduction(one) or type(one.body).__name__ != "BufferStore" for one in blocks):
        return Kind.OTHER
    moves = all(type(one.body.value).__name__ == "TensorLoad" for one in blocks)
    return Kind.MOVE if moves and len(function.params) == 2 else Kind.ELEMENTWISE


class Calls:
    """Bindings of one Relax function in order, and who reads what."""

    def __init__(self, module: Any, function: Any) -> None:
        from tvm.relax import analysis

        self.module = module
        self.bound: dict[Any, Any] = {}
        self._readers: dict[Any, int] = {}
        self._kinds: dict[Any, Kind] = {}
        for block in function.body.blocks:
            for binding in block.bindings:
                self.bound[binding.var] = binding.value
                for read in analysis.free_vars(binding.value):
                    self._readers[read] = self._readers.get(read, 0) + 1
        for read in analysis.free_vars(function.body.body):
            self._readers[read] = self._readers.get(read, 0) + 1

    def n_readers(self, variable: Any) -> int:
        """Bindings that read a variable, and the function's result if it does."""
        return self._readers.get(variable, 0)

    def is_call(self, variable: Any) -> bool:
        """Whether a variable is the one output of a function."""
        value: Any = self.bound.get(variable)
        is_call = getattr(getattr(value, "op", None), "name", "") == "relax.call_tir"
        return is_call and len(value.args) == 2 and not hasattr(value.ty_args[0], "fields")

    def function_of(self, variable: Any) -> Any:
        """The function behind a call."""
        return self.module[self.bound[variable].args[0]]

    def arguments(self, variable: Any) -> list[Any]:
        """What a call passes."""
        return list(self.bound[variable].args[1].fields)

    def _kind(self, variable: Any) -> Kind:
        symbol = self.bound[variable].args[0]
        if symbol not in self._kinds:
            self._kinds[symbol] = _kind_of(self.module[symbol])
        return self._kinds[symbol]

    def is_elementwise(self, variable: Any) -> bool:
        """Whether a variable is the one output of a function without a mark and without sums."""
        return self.is_call(variable) and self._kind(variable) is not Kind.OTHER

    def moves_before(self, variable: Any) -> list[Any]:
        """Calls, first one first, that only put elements of one tensor into other places."""
        if not self.is_call(variable) or self._kind(variable) not in (Kind.MOVE, Kind.VIEW):
            return []
        (source,) = self.arguments(variable)
        return [*self.moves_before(source), variable]

    def is_view(self, variable: Any) -> bool:
        """Whether a call leaves every element where it is, and runs no kernel."""
        return self._kind(variable) is Kind.VIEW


class Group:
    """Calls that are to become one.

    Args:
        calls: Where they stand.
        members: Their variables, in an order in which they can be computed; the last is the result.
    """

    def __init__(self, calls: Calls, members: Sequence[Any]) -> None:
        self.calls = calls
        self.members = list(dict.fromkeys(members))

    @cached_property
    def inputs(self) -> list[Any]:
        """What the members read and do not compute, once each."""
        found: list[Any] = []
        for member in self.members:
            for one in self.calls.arguments(member):
                if one not in self.members and not any(one.same_as(other) for other in found):
                    found.append(one)
        return found

    @property
    def name(self) -> str:
        """Made of the members' names, as TVM makes those of fused functions."""
        parts = [symbol.removeprefix("fused_") for symbol in self._symbols]
        return "_".join(["fused", *parts])[:LONGEST_NAME].rstrip("_")

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for groups whose functions are equal."""
        return tuple(map(tuple, self.places)), tuple(self._symbols)

    @cached_property
    def places(self) -> list[list[tuple[str, int]]]:
        """What each member is given: numbers of members and of inputs."""
        return [list(map(self._place, self.calls.arguments(one))) for one in self.members]

    def _place(self, argument: Any) -> tuple[str, int]:
        if argument in self.members:
            return MEMBER, self.members.index(argument)
        return INPUT, next(i for i, one in enumerate(self.inputs) if one.same_as(argument))

    @property
    def _symbols(self) -> list[str]:
        return [str(self.calls.bound[one].args[0].name_hint) for one in self.members]

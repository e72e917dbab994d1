"""Calls of fused functions in a Relax function, and several of them as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from functools import cache, cached_property
from typing import Any

from effcompile.frontend.kernels.marking import GENERIC, marks_of
from schedules import _tvm
from schedules.analysis import launches_threads, leaf_blocks, new_schedule
from schedules.product_reading import is_reduction
from schedules.target import Target

LONGEST_NAME = 100
MEMBER, INPUT = "member", "input"


class Kind(Enum):
    """What a function does to one element after the other."""

    VIEW = auto()
    MOVE = auto()
    ELEMENTWISE = auto()
    OTHER = auto()


def _kind_of(function: Any) -> Kind:
    from tvm.relax import analysis

    is_plain = marks_of(function)[0] == GENERIC and _is_static(function)
    if not is_plain or launches_threads(function):
        return Kind.OTHER
    if len(function.params) == 2 and analysis.has_reshape_pattern(function):
        return Kind.VIEW
    schedule = new_schedule(function)
    blocks = [schedule.get(block) for block in leaf_blocks(schedule)]
    if any(is_reduction(one) or type(one.body).__name__ != "BufferStore" for one in blocks):
        return Kind.OTHER
    moves = all(type(one.body.value).__name__ == "TensorLoad" for one in blocks)
    return Kind.MOVE if moves and len(function.params) == 2 else Kind.ELEMENTWISE


def _is_static(function: Any) -> bool:
    shapes = [getattr(one, "shape", [None]) for one in function.params]
    return all(hasattr(extent, "value") for shape in shapes for extent in shape)


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


def joined_function(group: Group) -> Any:
    """One schedulable function that takes a group's inputs and computes its last member."""
    tvm = _tvm.load()
    from tvm import relax

    bound = group.calls.bound
    called = {bound[one].args[0] for one in group.members}
    builder = relax.BlockBuilder(tvm.IRModule({one: group.calls.module[one] for one in called}))
    inner = [relax.Var(f"a{i}", one.ty) for i, one in enumerate(group.inputs)]
    with builder.function("joined", inner, attrs={"Primitive": 1}):
        results: list[Any] = []
        with builder.dataflow():
            for member, places in zip(group.members, group.places, strict=True):
                given = [(results if kind == MEMBER else inner)[i] for kind, i in places]
                symbol, out_type = bound[member].args[0], bound[member].ty_args[0]
                results.append(builder.emit(relax.call_tir(symbol, given, out_ty=out_type)))
            result = builder.emit_output(results[-1])
        builder.emit_func_output(result)
    outer = [relax.Var(f"b{i}", one.ty) for i, one in enumerate(group.inputs)]
    with builder.function("caller", outer):
        with builder.dataflow():
            symbol = builder.get().get_global_var("joined")
            result = builder.emit_output(relax.Call(symbol, outer))
        builder.emit_func_output(result)
    return relax.transform.FuseTIR()(builder.get())["joined"]


def in_one_block(function: Any, *, keep: tuple[str, ...] = ()) -> Any:
    """The function with everything inside of its last block but sums and blocks of some names.

    ``None`` if it cannot be brought into that form.
    """
    schedule = new_schedule(function)
    for block in list(leaf_blocks(schedule))[:-1]:
        one = schedule.get(block)
        if is_reduction(one) or (keep and str(one.name_hint).startswith(keep)):
            continue
        try:
            schedule.compute_inline(block)
        except RuntimeError:  # TVM's schedule errors, of which there are many
            return None
    return schedule.mod["main"].without_attr("global_symbol")


def join_calls(
    name: str,
    groups_of: Callable[[Calls, Any], Sequence[Group]],
    function_of: Callable[[Group], Any],
    target: Target,
) -> Any:
    """A pass for modules of fused functions on GPUs that puts one call in the place of several.

    Args:
        name: Of the pass.
        groups_of: The calls that may become one with the call of a variable, best choice first.
        function_of: Their function, ``None`` if they had better stay apart.
        target: Nothing is done for other kinds.
    """
    tvm = _tvm.load()

    def joined(calls: Calls) -> dict[Any, tuple[Any, Group]]:
        """The longest groups by their last variable."""
        found: dict[Any, tuple[Any, Group]] = {}
        made: dict[Any, Any] = {}
        taken: set[Any] = set()
        for variable in reversed(calls.bound):
            for group in () if variable in taken else groups_of(calls, variable):
                if group.key not in made:
                    made[group.key] = function_of(group)
                if made[group.key] is not None:
                    found[variable] = made[group.key], group
                    taken.update(group.members)
                    break
        return found

    def run(module: Any, _context: Any) -> Any:
        if target.kind != "cuda":
            return module
        for variable, function in module.functions_items():
            if isinstance(function, tvm.relax.Function):
                found = joined(Calls(module, function))
                if found:
                    mutator = _mutator_class()(module, found)
                    mutator.builder_.update_func(variable, mutator.visit_expr(function))
                    module = mutator.builder_.get()
        return tvm.relax.transform.DeadCodeElimination()(module)

    return tvm.transform.module_pass(run, opt_level=0, name=name)


@cache
def _mutator_class() -> Any:
    _tvm.load()
    from tvm import relax

    @relax.expr_functor.mutator
    class Rewriter(relax.PyExprMutator):  # type: ignore[misc]
        """Puts calls of joined functions in the place of their last members."""

        def __init__(self, module: Any, joined: dict[Any, tuple[Any, Group]]) -> None:
            super().__init__(module)
            self.joined = joined

        def visit_var_binding_(self, binding: Any) -> None:
            found = self.joined.get(binding.var)
            if found is not None:
                function, group = found
                symbol = self.builder_.add_func(function, group.name)
                inputs = [self.visit_expr(one) for one in group.inputs]
                call = relax.call_tir(symbol, inputs, out_ty=binding.value.ty_args[0])
                binding = relax.VarBinding(binding.var, call)
            super().visit_var_binding_(binding)

    return Rewriter

"""Calls of fused functions joined once more: one function in the place of a group of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from effcompile.frontend.fused_calls import MEMBER, Calls, Group
from schedules import _tvm
from schedules.analysis import leaf_blocks, new_schedule
from schedules.product_reading import is_reduction
from schedules.target import Target


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

"""Packed products of the same ``x`` in one launch, as queries, keys and values are.

Each keeps an output of its own: nothing is split or copied afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from functools import cache
from typing import Any

from effcompile.frontend.kernels.joined_products import is_joinable, side_by_side
from effcompile.frontend.matchers.expressions import Scope
from effcompile.frontend.matchers.packed_products import (
    Product,
    has_packed_products,
    product_of,
    shared_inputs,
)
from schedules import _tvm

SHARED = ("x", "x_scales")
Group = list[tuple[Any, Product]]
"""Calls and what they compute, in the order of the program."""


def join_siblings() -> Any:
    """The pass that joins every two or more."""
    tvm = _tvm.load()

    def run(module: Any, _context: Any) -> Any:
        if not has_packed_products(module):
            return module
        mutator = _joiner_class()(module)
        for variable, function in module.functions_items():
            if isinstance(function, tvm.relax.Function):
                groups = _groups(function, mutator.builder_)
                if groups:
                    mutator.builder_.update_func(variable, mutator.join(function, groups))
        return tvm.relax.transform.DeadCodeElimination()(mutator.builder_.get())

    return tvm.transform.module_pass(run, opt_level=0, name="JoinSiblings")


def _groups(function: Any, builder: Any) -> list[Group]:
    """Products that may be joined, two or more of each."""
    from tvm import relax

    bound = relax.analysis.get_var2val(function)
    scope = Scope(builder, bound.get)
    found: dict[Hashable, Group] = defaultdict(list)
    for block in function.body.blocks:
        for binding in block.bindings:
            product = product_of(binding.value, scope)
            if product is not None and _may_join(product):
                found[(block, *_shared(product, scope))].append((binding.value, product))
    return [group for group in found.values() if len(group) > 1]


def _may_join(product: Product) -> bool:
    given, attrs = product
    return is_joinable(given) and not (attrs["gated"] or attrs["residual"])


def _shared(product: Product, scope: Scope) -> tuple[Hashable, ...]:
    """What siblings have alike."""
    given, attrs = product
    kind = {name: value for name, value in attrs.items() if name not in ("columns", "bias")}
    return (*shared_inputs(given, scope), *sorted(kind.items()))


@cache
def _joiner_class() -> Any:
    _tvm.load()
    from tvm import relax

    @relax.expr_functor.mutator
    class Joiner(relax.PyExprMutator):  # type: ignore[misc]
        """Puts a joined product in the place of the first of a group, its outputs for all."""

        def __init__(self, module: Any) -> None:
            super().__init__(module)
            self.groups: list[Group] = []
            self.places: dict[Any, tuple[int, int]] = {}
            self.joined: dict[int, Any] = {}

        def join(self, function: Any, groups: list[Group]) -> Any:
            """The function with every group in one call."""
            self.groups, self.joined = groups, {}
            self.places = {
                member: (number, index)
                for number, group in enumerate(groups)
                for index, (member, _) in enumerate(group)
            }
            return self.visit_expr(function)

        def visit_call_(self, call: Any) -> Any:
            if call not in self.places:
                return super().visit_call_(call)
            number, index = self.places[call]
            return relax.TupleGetItem(self.outputs_of(number), index)

        def outputs_of(self, number: int) -> Any:
            if number not in self.joined:
                products = [product for _, product in self.groups[number]]
                given = [
                    {**one, **{role: self.visit_expr(one[role]) for role in SHARED if role in one}}
                    for one, _ in products
                ]
                call = side_by_side(self.builder_, given, [attrs for _, attrs in products])
                self.joined[number] = self.builder_.emit(call)
            return self.joined[number]

    return Joiner

"""Operators with a design space of their own, put into one marked function each.

Runs on the imported graph, before legalisation. Larger patterns go first, because a
softmax that has become a function of its own can no longer be seen as part of an
attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from effcompile.frontend.matchers.accumulation import widen_products, widen_sums
from effcompile.frontend.matchers.attention import match_attention
from effcompile.frontend.matchers.expressions import Scope, readers_of
from effcompile.frontend.matchers.gated_products import match_gated_product
from effcompile.frontend.matchers.modulation import match_modulated_norm
from effcompile.frontend.matchers.narrow_norm import match_narrow_norm
from effcompile.frontend.matchers.norms import match_bare_norm, match_layer_norm, match_rms_norm
from effcompile.frontend.matchers.packed_products import (
    has_packed_products,
    match_activation,
    match_bias,
    match_gate,
    match_quantised_input,
    match_residual,
)
from effcompile.frontend.matchers.softmax import match_softmax, match_written_softmax
from effcompile.frontend.matchers.whole import mark_attention, mark_norm
from schedules import _tvm
from schedules.target import Target

Matcher = Callable[[Any, Scope], Any]

# One sweep over the graph each.
SWEEPS: tuple[tuple[Matcher, ...], ...] = (
    (match_written_softmax,),
    (match_attention, match_layer_norm),
    (match_rms_norm,),
    (match_bare_norm,),
    (match_softmax, mark_norm, mark_attention, widen_products, widen_sums),
    (match_modulated_norm, match_narrow_norm),
)
PRODUCT_SWEEPS: tuple[tuple[Matcher, ...], ...] = (
    (match_quantised_input,),
    (match_bias,),
    (match_activation,),
    (match_gate,),
    (match_residual,),
)


def match_patterns(sweeps: Sequence[tuple[Matcher, ...]] = SWEEPS) -> Any:
    """The pass that replaces every match; what it read becomes dead code."""
    tvm = _tvm.load()

    def run(module: Any, _context: Any) -> Any:
        for matchers in sweeps:
            mutator = _mutator_class()(module, matchers)
            for variable, function in module.functions_items():
                if isinstance(function, tvm.relax.Function):
                    mutator.readers = readers_of(function)
                    mutator.builder_.update_func(variable, mutator.visit_expr(function))
            module = mutator.builder_.get()
            module = tvm.relax.transform.DeadCodeElimination()(module)
        return module

    return tvm.transform.module_pass(run, opt_level=0, name="MatchPatterns")


def match_surroundings() -> Any:
    """The pass that gives packed products, where there are any, what surrounds them."""
    sweeps = match_patterns(PRODUCT_SWEEPS)

    def run(module: Any, _context: Any) -> Any:
        return sweeps(module) if has_packed_products(module) else module

    return _tvm.load().transform.module_pass(run, opt_level=0, name="MatchSurroundings")


def pair_products(target: Target) -> Any:
    """The pass that joins gates and what they open, where products of pairs have a family."""
    pairs = match_patterns([(match_gated_product,)])

    def run(module: Any, _context: Any) -> Any:
        return pairs(module) if target.has_async_copies else module

    return _tvm.load().transform.module_pass(run, opt_level=0, name="PairProducts")


@cache
def _mutator_class() -> Any:
    _tvm.load()
    from tvm import relax

    @relax.expr_functor.mutator
    class Rewriter(relax.PyExprMutator):  # type: ignore[misc]
        """Gives every call to the matchers; the first that answers replaces it."""

        def __init__(self, module: Any, matchers: tuple[Matcher, ...]) -> None:
            super().__init__(module)
            self.matchers = matchers
            self.readers: Mapping[Any, int] = {}

        def visit_call_(self, call: Any) -> Any:
            call = super().visit_call_(call)
            if not hasattr(call.op, "name"):
                return call
            scope = Scope(self.builder_, self.lookup_binding, self.readers)
            for match in self.matchers:
                replacement = match(call, scope)
                if replacement is not None:
                    return replacement
            return call

    return Rewriter

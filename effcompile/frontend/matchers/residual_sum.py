"""A sum that a norm reads first, computed by the norm, which then gives both.

``h = x + r; n = norm(h)`` reads two arrays, writes one, and reads that again; in one kernel the sum
never comes back from memory. A sum that fusion makes the ending of another kernel (a product, say)
is left alone: it costs no kernel there, and one access less than here.

Runs after all other patterns: norms are marked functions by then, and dead code is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from effcompile.frontend.kernels.marking import marks_of, type_of
from effcompile.frontend.kernels.norms import LAYER_NORM, RMS_NORM, norm_call, norm_of
from schedules import _tvm


@dataclass(frozen=True, slots=True)
class _Match:
    """A sum and the norm that reads it first; ``kept`` if others read it later."""

    total: Any
    norm: Any
    kept: bool


def fuse_residual_sums() -> Any:
    """The pass that moves such sums into their norms."""
    tvm = _tvm.load()

    def run(module: Any, _context: Any) -> Any:
        for variable, function in module.functions_items():
            if isinstance(function, tvm.relax.Function):
                mutator = _mutator_class()(module, _matches(module, function))
                mutator.builder_.update_func(variable, mutator.visit_expr(function))
                module = mutator.builder_.get()
        return tvm.relax.transform.DeadCodeElimination()(module)

    return tvm.transform.module_pass(run, opt_level=0, name="FuseResidualSums")


def _matches(module: Any, function: Any) -> list[_Match]:
    """What can be fused, one norm per sum."""
    return list(_Uses(module, function).matches())


class _Uses:
    """Bindings of one function in order, and who reads what."""

    def __init__(self, module: Any, function: Any) -> None:
        from tvm.relax import analysis

        self.module = module
        self.value: dict[Any, Any] = {}
        self.readers: dict[Any, list[Any]] = {}
        for block in function.body.blocks:
            for binding in block.bindings:
                self.value[binding.var] = binding.value
                for read in analysis.free_vars(binding.value):
                    self.readers.setdefault(read, []).append(binding.var)
        self.results = set(analysis.free_vars(function.body.body))

    def matches(self) -> Iterator[_Match]:
        """Sums whose first reader is a norm, in order."""
        for total, value in self.value.items():
            first, *others = self.readers.get(total, [None])
            if first is None:
                continue
            if self._is_norm_of(first, total) and self._is_residual(value):
                yield _Match(total, first, bool(others) or total in self.results)

    def _is_norm_of(self, variable: Any, x: Any) -> bool:
        call = self.value[variable]
        if not _is_call(call, "call_tir"):
            return False
        op, attrs = marks_of(self.module[call.args[0]])
        if op not in (LAYER_NORM, RMS_NORM) or attrs.get("residual"):
            return False
        operands = call.args[1].fields
        return bool(operands[0].same_as(x)) and not any(one.same_as(x) for one in operands[1:])

    def _is_residual(self, value: Any) -> bool:
        if not _is_call(value, "add") or _operands(value) is None:
            return False
        return all(map(self._stands_alone, value.args))

    def _stands_alone(self, operand: Any) -> bool:
        """Whether no kernel would take over the sum: this one lies in memory anyway."""
        from tvm import relax

        value = self.value.get(operand)
        if value is None or len(self.readers[operand]) > 1 or operand in self.results:
            return True
        if isinstance(value, relax.TupleGetItem) or _is_call(value, "call_tir"):
            return True
        return _is_call(value, "reshape") and self._stands_alone(value.args[0])


def _operands(total: Any) -> tuple[Any, Any] | None:
    """``x`` and the residual of a sum, ``None`` if no operand has the shape of the sum."""
    shape, dtype = type_of(total)
    if not all(isinstance(extent, int) for extent in shape):
        return None
    for x, other in (tuple(total.args), tuple(reversed(total.args))):
        if type_of(x) == (shape, dtype) and _repeats(type_of(other), shape, dtype):
            return x, other
    return None


def _repeats(other: tuple[list[Any], str], shape: list[int], dtype: str) -> bool:
    """Whether rows of one operand are all rows of a sum, or a part of them again and again."""
    found = [1] * (len(shape) - len(other[0])) + other[0]
    n_ones = next((i for i, (a, b) in enumerate(zip(found, shape, strict=True)) if a == b), 0)
    is_tail = found == [1] * n_ones + shape[n_ones:]
    return other[1] == dtype and is_tail and n_ones < len(shape) - 1


def _is_call(value: Any, *names: str) -> bool:
    from tvm import relax

    wanted = {f"relax.{name}" for name in names}
    return isinstance(value, relax.Call) and getattr(value.op, "name", "") in wanted


@cache
def _mutator_class() -> Any:
    _tvm.load()
    from tvm import relax

    @relax.expr_functor.mutator
    class Rewriter(relax.PyExprMutator):  # type: ignore[misc]
        """Puts one function in the place of a sum and its norm."""

        def __init__(self, module: Any, matches: list[_Match]) -> None:
            super().__init__(module)
            self.matches = {one.norm: one for one in matches}

        def visit_var_binding_(self, binding: Any) -> None:
            match = self.matches.get(binding.var)
            if match is None:
                super().visit_var_binding_(binding)
                return
            total = self.lookup_binding(self.visit_expr(match.total))
            made = self._fused(self.visit_expr(binding.value), total, match.kept)
            normal = made[0] if match.kept else made
            self.set_var_remap(binding.var, self._bound(normal, binding.var))
            if match.kept:
                self.set_var_remap(match.total, self._bound(made[1], match.total))

        def _fused(self, call: Any, total: Any, keeps_sum: bool) -> Any:
            marked = marks_of(self.builder_.get()[call.args[0]])
            _, norm = norm_of(*marked, call.args[1].fields)
            operands = _operands(total)
            assert operands is not None
            norm = replace(norm, residual=operands[1], keeps_sum=keeps_sum)
            made = norm_call(self.builder_, operands[0], norm)
            return self.builder_.emit(made) if keeps_sum else made

        def _bound(self, value: Any, old: Any) -> Any:
            """A variable that lives as long as the one whose place it takes."""
            is_output = self.builder_.current_block_is_dataflow() and not isinstance(
                old, relax.DataflowVar
            )
            return self.builder_.emit_output(value) if is_output else self.builder_.emit(value)

    return Rewriter

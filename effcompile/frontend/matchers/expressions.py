"""Looking at Relax expressions through their bindings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from effcompile.frontend.constants import constant_array
from effcompile.frontend.kernels.marking import GENERIC, marks_of, type_of

# Of operators below two values that may be equal: a mean, a difference, a cast.
DEEPEST_COMPARED = 3


@dataclass(frozen=True, slots=True)
class Scope:
    """The block that is being rewritten.

    Attributes:
        builder: The ``relax.BlockBuilder`` that replacements are emitted with.
        lookup: Variable to the expression bound to it, ``None`` if it is a parameter.
        readers: Variable to how often it is read, as the function was before this sweep.
    """

    builder: Any
    lookup: Callable[[Any], Any]
    readers: Mapping[Any, int] = field(default_factory=dict)

    def emit(self, expression: Any) -> Any:
        """Bind an expression, so that its shape and dtype are known."""
        return self.builder.emit(expression)

    def resolved(self, expression: Any) -> Any:
        """The expression itself, behind any chain of variables."""
        from tvm import relax

        while isinstance(expression, relax.Var):
            bound = self.lookup(expression)
            if bound is None:
                return expression
            expression = bound
        return expression

    def call(self, expression: Any, *names: str) -> Any:
        """The call of one of the named operators behind an expression, or ``None``."""
        from tvm import relax

        found = self.resolved(expression)
        if not isinstance(found, relax.Call):
            return None
        return (
            found if getattr(found.op, "name", "") in {f"relax.{name}" for name in names} else None
        )

    def marked(self, expression: Any) -> tuple[str, Any, Any] | None:
        """Operator, attributes and inputs of the marked function called, or ``None``."""
        called = self.call(expression, "call_tir")
        if called is None:
            return None
        op, attrs = marks_of(self.builder.get()[called.args[0]])
        return None if op == GENERIC else (op, attrs, called.args[1].fields)

    def is_read_by(self, expression: Any, n: int) -> bool:
        """Whether a variable is read exactly so often; unknown for what this sweep has made."""
        return self.readers.get(expression) == n

    def scalar(self, expression: Any) -> float | None:
        """The value of a constant with one element, or ``None``."""
        value = constant_array(self.resolved(expression))
        return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None

    def either_scalar(self, call: Any) -> tuple[Any, float] | None:
        """The other operand and the value, where one operand of a call is a constant scalar."""
        for this, other in ((0, 1), (1, 0)):
            value = self.scalar(call.args[this])
            if value is not None:
                return call.args[other], value
        return None

    def scaled(self, expression: Any) -> tuple[Any, float]:
        """An expression without the constant factor in front of it, and that factor."""
        factor = 1.0
        while True:
            call = self.call(expression, "multiply", "divide")
            if call is None:
                return expression, factor
            if call.op.name == "relax.divide":
                value = self.scalar(call.args[1])
                found = None if not value else (call.args[0], 1.0 / value)
            else:
                found = self.either_scalar(call)
            if found is None or type_of(found[0]) != type_of(expression):
                return expression, factor
            expression, factor = found[0], factor * found[1]

    def without_cast(self, expression: Any) -> Any:
        """An expression before a change of dtype."""
        cast = self.call(expression, "astype")
        return expression if cast is None else cast.args[0]

    def same(self, left: Any, right: Any, *, depth: int = DEEPEST_COMPARED) -> bool:
        """Whether two expressions are the same value, casts aside.

        Exporters compute some values twice, so that calls are compared by what they read.
        """
        found = [self.resolved(self.without_cast(one)) for one in (left, right)]
        if found[0].same_as(found[1]):
            return True
        if depth == 0 or not _same_operation(*found):
            return False
        pairs = zip(found[0].args, found[1].args, strict=True)
        return all(self.same(one, other, depth=depth - 1) for one, other in pairs)


def _same_operation(left: Any, right: Any) -> bool:
    """Whether two expressions are calls of one operator with equal attributes."""
    import tvm_ffi
    from tvm import relax

    if not (isinstance(left, relax.Call) and isinstance(right, relax.Call)):
        return False
    if not left.op.same_as(right.op) or len(left.args) != len(right.args):
        return False
    return bool(tvm_ffi.structural_equal(left.attrs, right.attrs)) or _same_mean(left, right)


def _same_mean(left: Any, right: Any) -> bool:
    """Whether two means are over the same axes, from whichever end they are counted."""
    if left.op.name != "relax.mean" or None in (left.attrs.axis, right.attrs.axis):
        return False
    found = [
        sorted(int(axis) % len(type_of(mean.args[0])[0]) for axis in mean.attrs.axis)
        for mean in (left, right)
    ]
    return found[0] == found[1] and type_of(left)[0] == type_of(right)[0]


def is_last_axis(axes: Any, rank: int) -> bool:
    """Whether reduction axes are exactly the last one."""
    return axes is not None and [int(axis) % rank for axis in axes] == [rank - 1]


def readers_of(function: Any) -> Counter[Any]:
    """How often each variable of a function is read; by branches, at least twice."""
    from tvm import relax

    found: Counter[Any] = Counter()

    def count(expression: Any) -> None:
        if isinstance(expression, relax.Var):
            found[expression] += 1
        elif isinstance(expression, relax.Tuple | relax.Call):
            for part in expression.fields if hasattr(expression, "fields") else expression.args:
                count(part)
        elif isinstance(expression, relax.TupleGetItem):
            count(expression.tuple_value)
        elif isinstance(expression, relax.If):
            for variable in relax.analysis.free_vars(expression):
                found[variable] += 2

    if isinstance(function.body, relax.SeqExpr):
        for block in function.body.blocks:
            for binding in block.bindings:
                count(binding.value)
        count(function.body.body)
    return found

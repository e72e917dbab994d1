"""``activation(x A) * (x B)`` of constant matrices as one product of both, column by column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from effcompile.frontend.constants import constant_array
from effcompile.frontend.kernels.marking import OPAQUE, type_of
from effcompile.frontend.matchers.expressions import Scope
from schedules.contraction import PAIRED_COLUMNS
from schedules.dtypes import HALF


@dataclass(frozen=True, slots=True)
class _Linear:
    """``x @ matrix + bias`` of constants."""

    x: Any
    matrix: np.ndarray
    bias: np.ndarray | None


def match_gated_product(call: Any, scope: Scope) -> Any:
    """The product of a gate and of what it opens, or ``None``."""
    if call.op.name != "relax.multiply":
        return None
    for this, other in ((0, 1), (1, 0)):
        opened = _linear(call.args[other], scope)
        activated = None if opened is None else _activated(call.args[this], scope)
        if opened is None or activated is None:
            continue
        gate, activation = activated
        if _are_alike(gate, opened, call, scope):
            return _joined(gate, opened, activation, call, scope)
    return None


def _activated(expression: Any, scope: Scope) -> tuple[_Linear, str] | None:
    """The linear layer under an activation that nobody else reads."""
    if not scope.is_read_by(expression, 1):
        return None
    call = scope.call(expression, *(f"nn.{name}" for name in ACTIVATIONS))
    if call is not None:
        gate = _linear(call.args[0], scope)
        return None if gate is None else (gate, call.op.name.removeprefix("relax.nn."))
    product = scope.call(expression, "multiply")
    for this, other in ((0, 1), (1, 0)) if product is not None else ():
        sigmoid = scope.call(product.args[other], "sigmoid")
        if sigmoid is None or not scope.same(sigmoid.args[0], product.args[this]):
            continue
        gate = _linear(product.args[this], scope, readers=2)
        if gate is not None and scope.is_read_by(product.args[other], 1):
            return gate, "silu"
    return None


def _linear(expression: Any, scope: Scope, readers: int = 1) -> _Linear | None:
    """A linear layer that so many calls read."""
    if not scope.is_read_by(expression, readers):
        return None
    bias, added = None, scope.call(expression, "add")
    if added is not None:
        for this, other in ((0, 1), (1, 0)):
            bias = constant_array(scope.resolved(added.args[other]))
            if bias is not None:
                expression = added.args[this]
                break
        if bias is None or not scope.is_read_by(expression, 1):
            return None
    product = scope.call(expression, "matmul")
    matrix = None if product is None else constant_array(scope.resolved(product.args[1]))
    if product is None or matrix is None or matrix.ndim != 2:
        return None
    if bias is not None and (bias.size != matrix.shape[1] or bias.shape[-1] != bias.size):
        return None
    return _Linear(product.args[0], matrix, None if bias is None else bias.reshape(-1))


def _are_alike(gate: _Linear, opened: _Linear, call: Any, scope: Scope) -> bool:
    """Whether both read the same rows, of static shapes, and columns come in whole groups."""
    (shape, dtype), (rows, _) = type_of(call), type_of(gate.x)
    return (
        scope.resolved(gate.x).same_as(scope.resolved(opened.x))
        and gate.matrix.shape == opened.matrix.shape
        and (gate.bias is None) == (opened.bias is None)
        and dtype in HALF
        and str(gate.matrix.dtype) == str(opened.matrix.dtype) == dtype
        and all(isinstance(extent, int) for extent in rows)
        and shape == [*rows[:-1], gate.matrix.shape[1]]
        and 2 * gate.matrix.shape[1] % PAIRED_COLUMNS == 0
    )


def _joined(gate: _Linear, opened: _Linear, activation: str, call: Any, scope: Scope) -> Any:
    from tvm import relax

    columns = np.stack([gate.matrix, opened.matrix], axis=-1)
    inputs = [gate.x, relax.const(columns.reshape(len(columns), -1))]
    if gate.bias is not None and opened.bias is not None:
        inputs += [relax.const(one) for one in (gate.bias, opened.bias)]
    dtype = type_of(call)[1]

    def definition(x: Any, both: Any, *biases: Any) -> Any:
        from tvm import te

        k = te.reduce_axis((0, both.shape[0]), "k")

        def product(*index: Any) -> Any:
            *row, column = index
            left, right = x(*row, k), both(k, column)
            return te.sum(left.astype("float32") * right.astype("float32"), axis=k)

        sums = te.compute((*x.shape[:-1], both.shape[1]), product, name="gate_and_opened")

        def element(*index: Any) -> Any:
            *row, j = index
            first, second = sums(*row, 2 * j), sums(*row, 2 * j + 1)
            if biases:
                first, second = (
                    one + bias(j).astype("float32")
                    for one, bias in zip((first, second), biases, strict=True)
                )
            return (ACTIVATIONS[activation](first) * second).astype(dtype)

        return te.compute(tuple(type_of(call)[0]), element, name="gated")

    return scope.builder.call_te(
        definition,
        *inputs,
        primfunc_name_hint="gated_matmul",
        primfunc_attrs={"op_pattern": OPAQUE},
    )


def _silu(x: Any) -> Any:
    from tvm import te

    return x * te.sigmoid(x)


def _gelu(x: Any) -> Any:
    from tvm import te

    return x * 0.5 * (1.0 + te.erf(x * 0.5**0.5))


def _gelu_tanh(x: Any) -> Any:
    from tvm import te

    return x * 0.5 * (1.0 + te.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


def _relu(x: Any) -> Any:
    from tvm import te

    return te.max(x, 0.0)


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": _relu,
}

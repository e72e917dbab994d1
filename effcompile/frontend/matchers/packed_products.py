"""Packed products take up what surrounds them: the scale of an int8 ``x``, bias, activation,
gate and residual. Each matcher adds one of them to a product whose result nobody else reads."""

from __future__ import annotations

from math import prod
from typing import Any

from effcompile.frontend.constants import constant_array
from effcompile.frontend.kernels.gemv_dequant import gemv_dequant_call
from effcompile.frontend.kernels.joined_products import gated, is_joinable
from effcompile.frontend.kernels.marking import marks_of, type_of
from effcompile.frontend.matchers.expressions import Scope
from schedules.gemv_dequant_problem import FEW_ROWS, MOST_ROWS, OP, columns_of, input_roles
from schedules.workload import Attribute

ACTIVATIONS = {
    "relax.nn.silu": "silu",
    "relax.nn.gelu": "gelu",
    "relax.nn.gelu_tanh": "gelu_tanh",
    "relax.nn.relu": "relu",
}
Product = tuple[dict[str, Any], dict[str, Attribute]]
"""Inputs by role, and attributes."""


def has_packed_products(module: Any) -> bool:
    """Whether any function of a module is one."""
    return any(marks_of(function)[0] == OP for _, function in module.functions_items())


def product_of(expression: Any, scope: Scope) -> Product | None:
    """The packed product behind an expression."""
    found = scope.marked(expression)
    if found is None or found[0] != OP:
        return None
    _, attrs, inputs = found
    return dict(zip(input_roles(attrs), inputs, strict=True)), dict(attrs)


def _rows(product: Product) -> int:
    return int(prod(type_of(product[0]["x"])[0][:-1]))


def match_quantised_input(call: Any, scope: Scope) -> Any:
    """A product of ``int8 * scale`` as one of the int8 array, where integers are the faster way."""
    product = product_of(call, scope)
    if product is None or "x_scales" in product[0]:
        return None
    # Many rows of 16-bit floats have tensor cores of their own.
    most = MOST_ROWS if type_of(product[0]["x"])[1] == "float32" else FEW_ROWS
    if _rows(product) > most:
        return None
    given, attrs = product
    scaled = scope.call(given["x"], "multiply")
    wide = None if scaled is None else _without_zero(scaled.args[0], scope)
    cast = None if wide is None else scope.call(wide, "astype")
    if scaled is None or cast is None or type_of(cast.args[0])[1] != "int8":
        return None
    scales = _scales_of_rows(scaled.args[1], given["x"], scope)
    if scales is None:
        return None
    return gemv_dequant_call(scope.builder, {**given, "x": cast.args[0], "x_scales": scales}, attrs)


def _without_zero(expression: Any, scope: Scope) -> Any:
    """What is left of ``q - 0``, or the expression itself."""
    shifted = scope.call(expression, "subtract")
    if shifted is None:
        return expression
    zero = constant_array(scope.resolved(shifted.args[1]))
    return shifted.args[0] if zero is not None and not zero.any() else None


def _scales_of_rows(scales: Any, x: Any, scope: Scope) -> Any:
    """One scale, or one per row, as an array that a product takes; ``None`` if there are others."""
    from tvm import relax

    shape, rows = type_of(scales)[0], [*type_of(x)[0][:-1], 1]
    padded = [1] * (len(rows) - len(shape)) + shape
    if prod(shape) == 1:
        return scope.emit(relax.op.reshape(scales, (1,)))
    if padded != rows:
        return None
    return scales if shape == rows else scope.emit(relax.op.reshape(scales, rows))


def match_bias(call: Any, scope: Scope) -> Any:
    """A constant per column added to a product that has no ending yet."""
    for this, other in _sides(call, "relax.add"):
        product = _open_product(this, scope)
        bias = constant_array(scope.resolved(other))
        if product is None or bias is None or "bias" in product[0]:
            continue
        given, attrs = product
        per_column = bias.shape[-1:] == columns_of(attrs) and bias.size == bias.shape[-1]
        if per_column and type_of(this) == type_of(call):
            from tvm import relax

            added = relax.const(bias.reshape(-1), type_of(call)[1])
            return gemv_dequant_call(scope.builder, {**given, "bias": added}, attrs)
    return None


def match_activation(call: Any, scope: Scope) -> Any:
    """An activation of a product that has none yet."""
    activation = ACTIVATIONS.get(call.op.name)
    if activation is not None:
        return _activated(_open_product(call.args[0], scope), activation, scope)
    for this, other in _sides(call, "relax.multiply"):
        sigmoid = scope.call(other, "sigmoid")
        if sigmoid is not None and scope.is_read_by(other, 1) and scope.same(sigmoid.args[0], this):
            return _activated(_open_product(this, scope, readers=2), "silu", scope)
    return None


def _activated(product: Product | None, activation: str, scope: Scope) -> Any:
    if product is None:
        return None
    given, attrs = product
    return gemv_dequant_call(scope.builder, given, {**attrs, "activation": activation})


def match_gate(call: Any, scope: Scope) -> Any:
    """``activation(x A) * (x B)`` as one product of both matrices."""
    for this, other in _sides(call, "relax.multiply"):
        gate, up = _single(this, scope), _open_product(other, scope)
        if gate is None or up is None or gate[1]["gated"] or gate[1]["residual"]:
            continue
        alike = {**gate[1], "activation": "", "bias": False} == {**up[1], "bias": False}
        # Biases of two interleaved matrices lie in turns, which only kernels of few rows read.
        readable = _rows(gate) <= FEW_ROWS or not (gate[1]["bias"] or up[1]["bias"])
        if alike and readable and _share_inputs(gate[0], up[0], scope):
            return gated(scope.builder, gate[0], up[0], gate[1])
    return None


def _share_inputs(one: dict[str, Any], other: dict[str, Any], scope: Scope) -> bool:
    """Whether two products differ in their constants only."""
    pairs = zip(shared_inputs(one, scope), shared_inputs(other, scope), strict=True)
    same = all(left.same_as(right) for left, right in pairs)
    return same and is_joinable(one) and is_joinable(other)


def shared_inputs(given: dict[str, Any], scope: Scope) -> list[Any]:
    """What products of one launch must have alike; scales in whichever shape each has made."""
    shared = [scope.resolved(given["x"])]
    if "x_scales" in given:
        scales = scope.resolved(given["x_scales"])
        while (call := scope.call(scales, "reshape")) is not None:
            scales = scope.resolved(call.args[0])
        shared.append(scales)
    return shared


def match_residual(call: Any, scope: Scope) -> Any:
    """An array like the output added to a product."""
    for this, other in _sides(call, "relax.add"):
        product = _single(this, scope)
        if product is None or product[1]["residual"] or type_of(this) != type_of(other):
            continue
        given, attrs = product
        return gemv_dequant_call(scope.builder, {**given, "residual": other}, attrs)
    return None


def _sides(call: Any, name: str) -> list[tuple[Any, Any]]:
    """Both orders of an operator's operands; none if the call is of another one."""
    if call.op.name != name:
        return []
    return [(call.args[0], call.args[1]), (call.args[1], call.args[0])]


def _open_product(expression: Any, scope: Scope, readers: int = 1) -> Product | None:
    """A product without an activation, gate or residual, of one output."""
    product = _single(expression, scope, readers)
    if product is None or product[1]["activation"]:
        return None
    return None if product[1]["gated"] or product[1]["residual"] else product


def _single(expression: Any, scope: Scope, readers: int = 1) -> Product | None:
    """A product of one output that so many calls read."""
    product = product_of(expression, scope) if scope.is_read_by(expression, readers) else None
    return product if product and len(columns_of(product[1])) == 1 else None

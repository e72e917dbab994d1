"""Root-mean-square norm and layer norm, found in pieces and made one operator."""

from __future__ import annotations

from typing import Any

import numpy as np

from effcompile.frontend.kernels.marking import type_of
from effcompile.frontend.kernels.norms import layer_norm_call, rms_norm_call
from effcompile.frontend.matchers.expressions import Scope, is_last_axis


def match_rms_norm(call: Any, scope: Scope) -> Any:
    """The norm that a multiplication by its weight finishes, or ``None``."""
    if call.op.name != "relax.multiply":
        return None
    for this, other in ((0, 1), (1, 0)):
        normal = _divided_by_root(scope.without_cast(call.args[this]), scope)
        if normal is None:
            continue
        x, square, epsilon = normal
        source = _source(call, x, scope)
        if _is_square(square, x, scope) and _fits(call, source, call.args[other]):
            weight = _vector(call.args[other], scope)
            return rms_norm_call(scope.builder, source, weight, epsilon=epsilon)
    return None


def match_layer_norm(call: Any, scope: Scope) -> Any:
    """The norm that the addition of its bias finishes, or ``None``."""
    if call.op.name != "relax.add":
        return None
    for this, other in ((0, 1), (1, 0)):
        product = scope.call(scope.without_cast(call.args[this]), "multiply")
        found = None if product is None else _centred_norm(product, scope)
        if found is None:
            continue
        x, weight, epsilon = found
        source = _source(call, x, scope)
        if _fits(call, source, weight) and _fits(call, source, call.args[other]):
            gamma, beta = _vector(weight, scope), _vector(call.args[other], scope)
            return layer_norm_call(scope.builder, source, gamma, beta, epsilon=epsilon)
    return None


def match_bare_norm(call: Any, scope: Scope) -> Any:
    """A norm without weight and bias, or ``None``; to be asked after the others."""
    if call.op.name not in ("relax.divide", "relax.multiply"):
        return None
    normal = _divided_by_root(call, scope)
    if normal is None:
        return None
    x, square, epsilon = normal
    centred = _centred(normal, scope)
    source = _source(call, x if centred is None else centred, scope)
    if type_of(source) != type_of(call):
        return None
    if centred is not None:
        return layer_norm_call(scope.builder, source, _ones(source), None, epsilon=epsilon)
    if not _is_square(square, x, scope):
        return None
    return rms_norm_call(scope.builder, source, _ones(source), epsilon=epsilon)


def _source(call: Any, x: Any, scope: Scope) -> Any:
    """What a norm reads: ``x`` before a cast, unless only after it has it the type of the call."""
    before = scope.without_cast(x)
    return before if type_of(before) == type_of(call) else x


def _ones(x: Any) -> Any:
    from tvm import relax

    return relax.const(np.ones(type_of(x)[0][-1], np.float32), "float32")


def _centred_norm(product: Any, scope: Scope) -> tuple[Any, Any, float] | None:
    """Input, weight and epsilon of ``(x - mean) / sqrt(variance + epsilon) * weight``."""
    for this, other in ((0, 1), (1, 0)):
        normal = _divided_by_root(scope.without_cast(product.args[this]), scope)
        x = None if normal is None else _centred(normal, scope)
        if normal is not None and x is not None:
            return x, product.args[other], normal[2]
    return None


def _centred(normal: tuple[Any, Any, float], scope: Scope) -> Any:
    """``x`` if the parts of a quotient by a root are ``x - mean``, the variance and an epsilon."""
    difference, variance, _ = normal
    centred = scope.call(difference, "subtract")
    if centred is None or not _is_square(variance, difference, scope):
        return None
    return centred.args[0] if _is_mean_of(centred.args[1], centred.args[0], scope) else None


def _divided_by_root(expression: Any, scope: Scope) -> tuple[Any, Any, float] | None:
    """``x``, ``s`` and ``epsilon`` of ``x / sqrt(s + epsilon)``, however it is written."""
    quotient = scope.call(expression, "divide")
    if quotient is not None:
        inside = _plus_epsilon(scope.call(quotient.args[1], "sqrt"), scope)
        return None if inside is None else (quotient.args[0], *inside)
    product = scope.call(expression, "multiply")
    if product is None:
        return None
    for this, other in ((0, 1), (1, 0)):
        inside = _plus_epsilon(_inverse_root(product.args[other], scope), scope)
        if inside is not None:
            return product.args[this], *inside
    return None


def _inverse_root(expression: Any, scope: Scope) -> Any:
    """The call whose argument is below the root in ``1 / sqrt(.)``."""
    root = scope.call(expression, "rsqrt")
    if root is not None:
        return root
    quotient = scope.call(expression, "divide")
    if quotient is not None and scope.scalar(quotient.args[0]) == 1.0:
        return scope.call(quotient.args[1], "sqrt")
    return None


def _plus_epsilon(root: Any, scope: Scope) -> tuple[Any, float] | None:
    added = None if root is None else scope.call(root.args[0], "add")
    return None if added is None else scope.either_scalar(added)


def _is_square(expression: Any, x: Any, scope: Scope) -> bool:
    """Whether an expression is ``mean(x ** 2)`` over the last axis, axis kept."""
    mean = _mean(expression, scope)
    if mean is None:
        return False
    power = scope.call(mean.args[0], "power")
    if power is not None:
        return scope.scalar(power.args[1]) == 2.0 and scope.same(power.args[0], x)
    product = scope.call(mean.args[0], "multiply")
    return product is not None and all(scope.same(factor, x) for factor in product.args)


def _is_mean_of(expression: Any, x: Any, scope: Scope) -> bool:
    mean = _mean(expression, scope)
    return mean is not None and scope.same(mean.args[0], x)


def _mean(expression: Any, scope: Scope) -> Any:
    """The mean over the last axis behind an expression of extent 1 there, or ``None``."""
    shape = type_of(expression)[0]
    viewed = scope.call(scope.without_cast(expression), "reshape", "expand_dims")
    mean = scope.call(scope.without_cast(expression if viewed is None else viewed.args[0]), "mean")
    if mean is None or shape != [*type_of(mean.args[0])[0][:-1], 1]:
        return None
    return mean if is_last_axis(mean.attrs.axis, len(type_of(mean.args[0])[0])) else None


def _fits(call: Any, x: Any, parameter: Any) -> bool:
    """Whether replacing the call keeps its type, and the parameter is one value per feature."""
    shape = type_of(parameter)[0]
    width = type_of(x)[0][-1]
    is_vector = bool(shape) and shape[-1] == width and all(e == 1 for e in shape[:-1])
    return is_vector and type_of(x) == type_of(call)


def _vector(parameter: Any, scope: Scope) -> Any:
    from tvm import relax

    shape = type_of(parameter)[0]
    if len(shape) == 1:
        return parameter
    return scope.emit(relax.op.reshape(parameter, (shape[-1],)))

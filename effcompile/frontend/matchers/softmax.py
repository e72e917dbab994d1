"""Softmax with the mask and the constant factor in front of it."""

from __future__ import annotations

from math import prod
from typing import Any

from effcompile.frontend.kernels.marking import type_of
from effcompile.frontend.kernels.softmax import softmax_call
from effcompile.frontend.matchers.expressions import Scope, is_last_axis


def match_softmax(call: Any, scope: Scope) -> Any:
    """A softmax over the last axis as one marked function, or ``None``."""
    if call.op.name not in ("relax.nn.softmax", "relax.nn.log_softmax"):
        return None
    if not is_last_axis([call.attrs.axis], len(type_of(call)[0])):
        return None
    log = call.op.name == "relax.nn.log_softmax"
    scores, mask = _without_mask(call.args[0], scope)
    x, scale = scope.scaled(scores)
    return softmax_call(scope.builder, x, mask=mask, log=log, scale=scale)


def match_written_softmax(call: Any, scope: Scope) -> Any:
    """``exp(x - max(x)) / sum(exp(x - max(x)))`` as one operator, or ``None``."""
    from tvm import relax

    if call.op.name != "relax.divide":
        return None
    raised = scope.call(scope.without_cast(call.args[0]), "exp")
    total = scope.call(scope.without_cast(call.args[1]), "sum")
    if raised is None or total is None or not scope.same(total.args[0], call.args[0]):
        return None
    difference = scope.call(scope.without_cast(raised.args[0]), "subtract")
    if difference is None:
        return None
    largest = scope.call(scope.without_cast(difference.args[1]), "max")
    if largest is None or not scope.same(largest.args[0], difference.args[0]):
        return None
    x = scope.without_cast(difference.args[0])
    axes = [_kept_axis(one, len(type_of(x)[0])) for one in (total, largest)]
    if axes[0] != axes[1] or axes[0] is None or type_of(x) != type_of(call):
        return None
    return relax.op.nn.softmax(x, axis=axes[0])


def _kept_axis(reduction: Any, rank: int) -> int | None:
    """The one axis that a reduction makes 1, counted from the front; ``None`` for others."""
    axes = reduction.attrs.axis
    if axes is None or len(axes) != 1 or not reduction.attrs.keepdims:
        return None
    return int(axes[0]) % rank


def _without_mask(scores: Any, scope: Scope) -> tuple[Any, Any]:
    """What a mask is added to, and the mask; ``None`` for it where nothing like one is added.

    A mask is smaller than the scores: a sum of equals says nothing about which is the mask, and
    would be read by softmax twice where it fits no registers.
    """
    added = scope.call(scores, "add")
    if added is None:
        return scores, None
    for this, other in ((0, 1), (1, 0)):
        x, mask = added.args[this], added.args[other]
        if type_of(x) == type_of(scores) and _is_row_mask(mask, x):
            return x, mask
    return scores, None


def _is_row_mask(mask: Any, x: Any) -> bool:
    shape, whole = type_of(mask)[0], type_of(x)[0]
    if not all(isinstance(extent, int) for extent in (*shape, *whole)) or not shape:
        return False
    smaller = prod(shape) < prod(whole)
    return smaller and shape[-1] == whole[-1] and type_of(mask)[1] == type_of(x)[1]

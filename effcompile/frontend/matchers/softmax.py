"""Softmax with the constant factor in front of it."""

from __future__ import annotations

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
    x, scale = scope.scaled(call.args[0])
    return softmax_call(scope.builder, x, log=call.op.name == "relax.nn.log_softmax", scale=scale)

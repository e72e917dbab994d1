"""``effcompile::IntegerSoftmax``: softmax over the last axis in integers alone."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.converters.tensors import outputs
from effcompile.frontend.kernels.integer_softmax import integer_softmax_call
from effcompile.frontend.kernels.marking import type_of
from schedules.integer_softmax_problem import DEFAULTS, DEFERRED


@converter("IntegerSoftmax", domain="effcompile")
def integer_softmax(node: Node) -> Any:
    """Input: scores. Attributes: those of ``DEFAULTS``, and ``axis``, which must be the last."""
    x = node.required(0)
    rank = len(type_of(x)[0])
    if int(node.attrs.get("axis", -1)) not in (-1, rank - 1):
        raise ValueError(f"axis is {node.attrs['axis']}, expected the last one")
    given = {
        name: type(default)(node.attrs[name])
        for name, default in DEFAULTS.items()
        if name in node.attrs
    }
    found = node.emit(integer_softmax_call(node.builder, x, given))
    if given.get("output", DEFAULTS["output"]) == DEFERRED:
        return outputs(node, node.emit(found[0]), node.emit(found[1]))
    return found

"""``Sum``, ``Max``, ``Min`` and ``Mean`` as chains of two-input operators.

The stock importer stacks the inputs and reduces the stack: twice the memory traffic,
and a reduction that no longer fuses with the kernel before it (the residual sum of a
convolutional network, for example).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

from effcompile.frontend.converters.registry import Node, converter


@converter("Sum")
def sum_of_all(node: Node) -> Any:
    """Elementwise sum with broadcasting."""
    from tvm import relax

    return _chained(node, relax.op.add)


@converter("Max")
def largest(node: Node) -> Any:
    """Elementwise maximum with broadcasting."""
    from tvm import relax

    return _chained(node, relax.op.maximum)


@converter("Min")
def smallest(node: Node) -> Any:
    """Elementwise minimum with broadcasting."""
    from tvm import relax

    return _chained(node, relax.op.minimum)


@converter("Mean")
def mean(node: Node) -> Any:
    """Elementwise mean with broadcasting."""
    from tvm import relax

    total = node.emit(_chained(node, relax.op.add))
    return relax.op.divide(total, relax.const(len(node.inputs), str(total.ty.dtype)))


def _chained(node: Node, operator: Callable[[Any, Any], Any]) -> Any:
    return reduce(lambda left, right: node.emit(operator(left, right)), node.inputs)

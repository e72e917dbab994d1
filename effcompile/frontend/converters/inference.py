"""Operators that training needs and inference simplifies."""

from __future__ import annotations

from typing import Any

import numpy as np

from effcompile.frontend.constants import constant_array
from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.kernels.marking import type_of


@converter("Dropout")
def dropout(node: Node) -> Any:
    """The input itself, unless the mask is read or training is asked for."""
    training = node.input(2)
    is_training = training is not None and not _is_false(training)
    if node.n_outputs > 1 or is_training:
        return node.stock()
    return node.required(0)


def _is_false(expression: Any) -> bool:
    value = constant_array(expression)
    return value is not None and not value.any()


@converter("BatchNormalization")
def batch_normalization(node: Node) -> Any:
    """With stored statistics, one multiplication and one addition per element."""
    from tvm import relax

    values = [constant_array(node.required(index)) for index in range(1, 5)]
    if node.n_outputs > 1 or any(value is None for value in values):
        return node.stock()
    gamma, beta, mean, variance = (np.asarray(value, dtype=np.float64) for value in values)
    factor = gamma / np.sqrt(variance + float(node.attrs.get("epsilon", 1e-5)))
    shape, dtype = type_of(node.required(0))
    aligned = (1, -1, *[1] * (len(shape) - 2))

    def constant(value: np.ndarray) -> Any:
        return relax.const(value.reshape(aligned), dtype)

    scaled = node.emit(relax.op.multiply(node.required(0), constant(factor)))
    return relax.op.add(scaled, constant(beta - mean * factor))

"""Several packed products of one ``x`` as one: side by side, or as a gate and what it opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from effcompile.frontend.constants import constant_array
from effcompile.frontend.kernels.gemv_dequant import gemv_dequant_call
from schedules.gemv_dequant_problem import GATED_COLUMNS
from schedules.packing import TILE_COLUMNS, pair_tiles
from schedules.workload import Attribute

Tensors = Mapping[str, Any]
MATRIX = ("codes", "scales", "zeros")


def side_by_side(
    builder: Any, products: Sequence[Tensors], attrs: Sequence[Mapping[str, Attribute]]
) -> Any:
    """Products with an output each, as one call.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        products: Inputs by role; matrices and biases are constants, all else is shared.
        attrs: Of each, alike but for the columns and whether there is a bias.

    Returns:
        A tuple of the outputs.
    """
    parts = [_arrays(one) for one in products]
    joined = {role: np.concatenate([part[role] for part in parts]) for role in parts[0]}
    if any("bias" in one for one in products):
        joined["bias"] = np.concatenate([_bias(one) for one in products])
    columns = " ".join(str(one["columns"]) for one in attrs)
    return _call(builder, products[0], joined, {**attrs[0], "columns": columns})


def gated(builder: Any, gate: Tensors, other: Tensors, attrs: Mapping[str, Attribute]) -> Any:
    """``activation(gate) * other`` of two products as one call.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        gate: Inputs by role; matrices and biases are constants, all else is shared.
        other: The same.
        attrs: Of the gate, with its activation.
    """
    first, second = _arrays(gate), _arrays(other)
    joined = {role: pair_tiles(first[role], second[role]) for role in first}
    if "bias" in gate or "bias" in other:
        halves = [_bias(one).reshape(-1, GATED_COLUMNS) for one in (gate, other)]
        joined["bias"] = np.stack(halves, axis=1).reshape(-1)
    return _call(builder, gate, joined, {**attrs, "gated": True})


def is_joinable(product: Tensors) -> bool:
    """Whether matrices and bias are constants."""
    stored = [role for role in (*MATRIX, "bias") if role in product]
    return all(constant_array(product[role]) is not None for role in stored)


def _arrays(product: Tensors) -> dict[str, np.ndarray]:
    return {role: _stored(product[role]) for role in MATRIX if role in product}


def _bias(product: Tensors) -> np.ndarray:
    """By packed column, zero where there is none."""
    scales = _stored(product["scales"])
    bias = np.zeros(len(scales) * TILE_COLUMNS, dtype=scales.dtype)
    if "bias" in product:
        given = _stored(product["bias"])
        bias[: len(given)] = given
    return bias


def _stored(expression: Any) -> np.ndarray:
    value = constant_array(expression)
    if value is None:
        raise ValueError("only constant matrices can be joined; ask is_joinable first.")
    return value


def _call(
    builder: Any,
    shared: Tensors,
    joined: Mapping[str, np.ndarray],
    attrs: Mapping[str, Attribute],
) -> Any:
    from tvm import relax

    given = {**shared, **{role: relax.const(array) for role, array in joined.items()}}
    return gemv_dequant_call(builder, given, attrs)

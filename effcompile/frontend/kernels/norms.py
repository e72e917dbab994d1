"""Normalisation over the last axis: root mean square, and layer normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from effcompile.frontend.kernels.marking import marked_call

Modulation = tuple[Any, Any]
"""Scale and shift, both (groups, width) in the dtype of ``x``: the result of every row of a group
is multiplied by ``1 + scale``, then ``shift`` is added. Groups are consecutive rows, all of a size;
shapes are static."""


def rms_norm_call(
    builder: Any, x: Any, weight: Any, *, epsilon: float, modulation: Modulation | None = None
) -> Any:
    """``x / sqrt(mean(x**2) + epsilon) * weight`` over the last axis.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        x: Shape (..., width).
        weight: Shape (width,).
        epsilon: Added to the mean square.
        modulation: See :data:`Modulation`.
    """
    attrs = {"axis": -1, "epsilon": epsilon, **_marks(modulation)}

    def definition(data: Any, gamma: Any, *rest: Any) -> Any:
        return _rms_norm(data, gamma, epsilon, rest)

    inputs = [x, weight, *(modulation or ())]
    return marked_call(builder, definition, inputs, op="rms_norm", attrs=attrs)


def layer_norm_call(
    builder: Any,
    x: Any,
    weight: Any,
    bias: Any,
    *,
    epsilon: float,
    modulation: Modulation | None = None,
) -> Any:
    """``(x - mean) / sqrt(variance + epsilon) * weight + bias`` over the last axis.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        x: Shape (..., width).
        weight: Shape (width,).
        bias: Shape (width,); ``None`` for none.
        epsilon: Added to the variance.
        modulation: See :data:`Modulation`.
    """
    vectors = [] if bias is None else [bias]
    attrs = {"axis": -1, "epsilon": epsilon, "bias": bool(vectors), **_marks(modulation)}

    def definition(data: Any, gamma: Any, *rest: Any) -> Any:
        beta = rest[0] if vectors else None
        return _layer_norm(data, gamma, beta, epsilon, rest[len(vectors) :])

    inputs = [x, weight, *vectors, *(modulation or ())]
    return marked_call(builder, definition, inputs, op="layer_norm", attrs=attrs)


def _marks(modulation: Modulation | None) -> dict[str, bool]:
    return {} if modulation is None else {"modulated": True}


def _modulated(x: Any, modulation: Sequence[Any]) -> Callable[..., Any]:
    """What becomes of a normalised value at an index."""
    if not modulation:
        return lambda value, *_: value
    scale, shift = modulation
    *rows, _ = (int(extent) for extent in x.shape)
    rows_per_group = prod(rows) // int(scale.shape[0])

    def of(value: Any, *index: Any) -> Any:
        row: Any = 0
        for extent, position in zip(rows, index[:-1], strict=True):
            row = row * extent + position
        group, i = row // rows_per_group, index[-1]
        return value * (1.0 + scale(group, i).astype("float32")) + shift(group, i).astype("float32")

    return of


def _mean(x: Any, name: str, value: Any) -> Any:
    """Mean of ``value(*index)`` over the last axis, float32, shape of ``x`` without it."""
    from tvm import te

    *rows, width = x.shape
    k = te.reduce_axis((0, width), "k")
    total = te.compute(rows, lambda *i: te.sum(value(*i, k), axis=k), name=f"{name}_sum")
    return te.compute(rows, lambda *i: total(*i) / width.astype("float32"), name=name)


def _rms_norm(x: Any, weight: Any, epsilon: float, modulation: Sequence[Any]) -> Any:
    from tvm import te, tirx

    def wide(*index: Any) -> Any:
        return x(*index).astype("float32")

    square = _mean(x, "mean_square", lambda *i: wide(*i) * wide(*i))
    eps = tirx.const(epsilon, "float32")
    modulated = _modulated(x, modulation)

    def value(*i: Any) -> Any:
        normal = wide(*i) * te.rsqrt(square(*i[:-1]) + eps) * weight(i[-1]).astype("float32")
        return modulated(normal, *i).astype(x.dtype)

    return te.compute(x.shape, value, name="rms_norm")


def _layer_norm(x: Any, weight: Any, bias: Any, epsilon: float, modulation: Sequence[Any]) -> Any:
    from tvm import te, tirx

    def wide(*index: Any) -> Any:
        return x(*index).astype("float32")

    mean = _mean(x, "mean", wide)
    # Two passes: the difference of squares loses all digits when the mean is large.
    variance = _mean(
        x, "variance", lambda *i: (wide(*i) - mean(*i[:-1])) * (wide(*i) - mean(*i[:-1]))
    )
    eps = tirx.const(epsilon, "float32")
    modulated = _modulated(x, modulation)

    def value(*i: Any) -> Any:
        normal = (wide(*i) - mean(*i[:-1])) * te.rsqrt(variance(*i[:-1]) + eps)
        result = normal * weight(i[-1]).astype("float32")
        if bias is not None:
            result = result + bias(i[-1]).astype("float32")
        return modulated(result, *i).astype(x.dtype)

    return te.compute(x.shape, value, name="layer_norm")

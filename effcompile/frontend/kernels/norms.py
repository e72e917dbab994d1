"""Normalisation over the last axis: root mean square, and layer normalisation."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.kernels.marking import marked_call


def rms_norm_call(builder: Any, x: Any, weight: Any, *, epsilon: float) -> Any:
    """``x / sqrt(mean(x**2) + epsilon) * weight`` over the last axis.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        x: Shape (..., width).
        weight: Shape (width,).
        epsilon: Added to the mean square.
    """

    def definition(data: Any, gamma: Any) -> Any:
        return _rms_norm(data, gamma, epsilon)

    attrs = {"axis": -1, "epsilon": epsilon}
    return marked_call(builder, definition, [x, weight], op="rms_norm", attrs=attrs)


def layer_norm_call(builder: Any, x: Any, weight: Any, bias: Any, *, epsilon: float) -> Any:
    """``(x - mean) / sqrt(variance + epsilon) * weight + bias`` over the last axis.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        x: Shape (..., width).
        weight: Shape (width,).
        bias: Shape (width,); ``None`` for none.
        epsilon: Added to the variance.
    """

    def definition(data: Any, gamma: Any, *beta: Any) -> Any:
        return _layer_norm(data, gamma, beta[0] if beta else None, epsilon)

    inputs = [x, weight] if bias is None else [x, weight, bias]
    attrs = {"axis": -1, "epsilon": epsilon, "bias": bias is not None}
    return marked_call(builder, definition, inputs, op="layer_norm", attrs=attrs)


def _mean(x: Any, name: str, value: Any) -> Any:
    """Mean of ``value(*index)`` over the last axis, float32, shape of ``x`` without it."""
    from tvm import te

    *rows, width = x.shape
    k = te.reduce_axis((0, width), "k")
    total = te.compute(rows, lambda *i: te.sum(value(*i, k), axis=k), name=f"{name}_sum")
    return te.compute(rows, lambda *i: total(*i) / width.astype("float32"), name=name)


def _rms_norm(x: Any, weight: Any, epsilon: float) -> Any:
    from tvm import te, tirx

    def wide(*index: Any) -> Any:
        return x(*index).astype("float32")

    square = _mean(x, "mean_square", lambda *i: wide(*i) * wide(*i))
    eps = tirx.const(epsilon, "float32")
    return te.compute(
        x.shape,
        lambda *i: (
            wide(*i) * te.rsqrt(square(*i[:-1]) + eps) * weight(i[-1]).astype("float32")
        ).astype(x.dtype),
        name="rms_norm",
    )


def _layer_norm(x: Any, weight: Any, bias: Any, epsilon: float) -> Any:
    from tvm import te, tirx

    def wide(*index: Any) -> Any:
        return x(*index).astype("float32")

    mean = _mean(x, "mean", wide)
    # Two passes: the difference of squares loses all digits when the mean is large.
    variance = _mean(
        x, "variance", lambda *i: (wide(*i) - mean(*i[:-1])) * (wide(*i) - mean(*i[:-1]))
    )
    eps = tirx.const(epsilon, "float32")

    def value(*i: Any) -> Any:
        normal = (wide(*i) - mean(*i[:-1])) * te.rsqrt(variance(*i[:-1]) + eps)
        result = normal * weight(i[-1]).astype("float32")
        if bias is not None:
            result = result + bias(i[-1]).astype("float32")
        return result.astype(x.dtype)

    return te.compute(x.shape, value, name="layer_norm")

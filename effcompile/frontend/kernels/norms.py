"""Normalisation over the last axis: root mean square, and layer normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from effcompile.frontend.kernels.marking import marked_call
from schedules.workload import Attribute

RMS_NORM, LAYER_NORM = "rms_norm", "layer_norm"

Modulation = tuple[Any, Any]
"""Scale and shift, both (groups, width) in the dtype of ``x``: the result of every row of a group
is multiplied by ``1 + scale``, then ``shift`` is added. Groups are consecutive rows, all of a size;
shapes are static."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """What is done to rows; every operand is a Relax expression.

    Attributes:
        op: :data:`RMS_NORM` or :data:`LAYER_NORM`.
        epsilon: Added to the mean square, or to the variance.
        weight: Shape (width,).
        bias: Shape (width,), of layer norms only; ``None`` for none.
        modulation: See :data:`Modulation`.
        residual: Added to ``x`` before anything else, rounded to the dtype of ``x``. Same shape,
            except that leading axes may be missing or of extent 1.
        keeps_sum: Whether ``x + residual`` is a second result.
    """

    op: str
    epsilon: float
    weight: Any
    bias: Any = None
    modulation: Modulation | None = None
    residual: Any = None
    keeps_sum: bool = False

    @property
    def attrs(self) -> dict[str, Attribute]:
        """What the mark says; :func:`norm_of` reads it back."""
        return {
            "axis": -1,
            "epsilon": self.epsilon,
            **({"bias": self.bias is not None} if self.op == LAYER_NORM else {}),
            **({} if self.modulation is None else {"modulated": True}),
            **({} if self.residual is None else {"residual": True}),
        }

    def inputs(self, x: Any) -> list[Any]:
        """``x``, then what there is of residual, weight, bias, scale, shift."""
        optional = (self.residual, self.weight, self.bias, *(self.modulation or ()))
        return [x, *(one for one in optional if one is not None)]


def norm_of(op: str, attrs: dict[str, Any], inputs: Sequence[Any]) -> tuple[Any, Norm]:
    """``x`` and the norm of a marked function without a residual."""
    x, weight, *rest = inputs
    bias = rest.pop(0) if attrs.get("bias") else None
    modulation = (rest[0], rest[1]) if rest else None
    epsilon = float(attrs["epsilon"])
    return x, Norm(op=op, epsilon=epsilon, weight=weight, bias=bias, modulation=modulation)


def norm_call(builder: Any, x: Any, norm: Norm) -> Any:
    """The norm of ``x``, shape (..., width), as one function.

    Returns:
        Shape and dtype of ``x``; a tuple of that and the sum if the norm keeps it.
    """

    def definition(data: Any, *rest: Any) -> Any:
        parts = list(rest)
        rows = _sum(data, parts.pop(0)) if norm.residual is not None else data
        gamma = parts.pop(0)
        if norm.op == RMS_NORM:
            result = _rms_norm(rows, gamma, norm.epsilon, parts)
        else:
            beta = parts.pop(0) if norm.bias is not None else None
            result = _layer_norm(rows, gamma, beta, norm.epsilon, parts)
        return [result, rows] if norm.keeps_sum else result

    return marked_call(builder, definition, norm.inputs(x), op=norm.op, attrs=norm.attrs)


def rms_norm_call(builder: Any, x: Any, weight: Any, *, epsilon: float) -> Any:
    """``x / sqrt(mean(x**2) + epsilon) * weight`` over the last axis."""
    return norm_call(builder, x, Norm(op=RMS_NORM, epsilon=epsilon, weight=weight))


def layer_norm_call(builder: Any, x: Any, weight: Any, bias: Any, *, epsilon: float) -> Any:
    """``(x - mean) / sqrt(variance + epsilon) * weight + bias`` over the last axis."""
    norm = Norm(op=LAYER_NORM, epsilon=epsilon, weight=weight, bias=bias)
    return norm_call(builder, x, norm)


def _sum(x: Any, residual: Any) -> Any:
    from tvm import te

    shape = [1] * (len(x.shape) - len(residual.shape)) + [int(e) for e in residual.shape]

    def value(*index: Any) -> Any:
        padded = [0 if e == 1 else i for i, e in zip(index, shape, strict=True)]
        other = residual(*padded[len(shape) - len(residual.shape) :])
        return (x(*index).astype("float32") + other.astype("float32")).astype(x.dtype)

    return te.compute(x.shape, value, name="residual_sum")


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

"""``Resize`` where the stock importer would give other numbers: one matrix per resized axis.

Interpolation is linear in its input and separable, so resizing an axis is a product with a
constant matrix of ``n_out`` rows that sum to one. The stock importer takes the scale from
the sizes, though a scale that is given holds (1.5 makes 13 rows of 9), and ignores
``antialias`` and ``axes``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from effcompile.frontend.constants import constant_array
from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.kernels.marking import type_of

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizedAxis:
    """One axis and what happens to it.

    Attributes:
        axis: Its number.
        n_in: Extent before.
        n_out: Extent after.
        scale: Ratio that the coordinates are computed with; not always ``n_out / n_in``.
    """

    axis: int
    n_in: int
    n_out: int
    scale: float


@converter("Resize")
def resize(node: Node) -> Any:
    """Nearest, linear or cubic, as ONNX defines it."""
    axes = _resized_axes(node)
    if axes is None or not _needs_matrices(node, axes):
        return node.stock()
    if node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise ValueError("tf_crop_and_resize is served without antialias and with whole sizes only")
    from tvm import relax

    dtype = type_of(node.required(0))[1]
    is_whole = "float" not in dtype
    x = node.emit(relax.op.astype(node.required(0), "float32" if is_whole else dtype))
    for one in axes:
        x = _multiplied(node, x, one.axis, interpolation_matrix(one, node.attrs))
    return relax.op.astype(node.emit(relax.op.round(x)), dtype) if is_whole else x


def _needs_matrices(node: Node, axes: list[ResizedAxis]) -> bool:
    inexact = any(abs(one.n_in * one.scale - one.n_out) > 1e-4 for one in axes)
    return inexact or bool(node.attrs.get("antialias")) or "axes" in node.attrs


def _resized_axes(node: Node) -> list[ResizedAxis] | None:
    """Axes whose extent changes; ``None`` if that is not known before the model runs."""
    extents = type_of(node.required(0))[0]
    scales, sizes = (_numbers(node.input(index)) for index in (2, 3))
    policy = node.attrs.get("keep_aspect_ratio_policy", "stretch")
    if not all(isinstance(extent, int) for extent in extents) or policy != "stretch":
        return None
    axes = [axis % len(extents) for axis in node.attrs.get("axes", range(len(extents)))]
    if scales is not None:
        outs = [int(extents[axis] * one) for axis, one in zip(axes, scales, strict=True)]
    elif sizes is not None:
        outs = [int(size) for size in sizes]
        scales = np.array([one / extents[axis] for axis, one in zip(axes, outs, strict=True)])
    else:
        return None
    found = [
        ResizedAxis(axis=axis, n_in=extents[axis], n_out=out, scale=float(scale))
        for axis, out, scale in zip(axes, outs, scales, strict=True)
    ]
    return [one for one in found if one.n_out != one.n_in or one.scale != 1.0]


def _numbers(expression: Any) -> npt.NDArray[Any] | None:
    value = constant_array(expression)
    if value is None and type(expression).__name__ == "ShapeExpr":
        value = np.array([int(extent) for extent in expression.values])
    return value if value is not None and value.size else None


def _multiplied(node: Node, x: Any, axis: int, matrix: Matrix) -> Any:
    """``x`` with an axis of extent n_in replaced by one of extent n_out."""
    from tvm import relax

    shape, dtype = type_of(x)
    order = [*(i for i in range(len(shape)) if i != axis), axis]
    moved = node.emit(relax.op.permute_dims(x, order))
    product = node.emit(relax.op.matmul(moved, relax.const(matrix.T.copy(), dtype)))
    return node.emit(relax.op.permute_dims(product, [int(i) for i in np.argsort(order)]))


def interpolation_matrix(axis: ResizedAxis, attrs: Any) -> Matrix:
    """Weights of the inputs (columns) in every output (rows) of one axis.

    Args:
        axis: Which.
        attrs: Attributes of the ONNX operator.
    """
    places = _coordinates(axis, str(attrs.get("coordinate_transformation_mode", "half_pixel")))
    mode = str(attrs.get("mode", "nearest"))
    if mode == "nearest":
        rounded = _ROUNDINGS[str(attrs.get("nearest_mode", "round_prefer_floor"))](places)
        nearest = np.clip(rounded.astype(int), 0, axis.n_in - 1)
        return np.asarray(np.eye(axis.n_in)[nearest])
    kernel = _linear if mode == "linear" else _cubic(float(attrs.get("cubic_coeff_a", -0.75)))
    support = 1 if mode == "linear" else 2
    # Shrinking with antialias widens the kernel, so that every input counts.
    step = min(axis.scale, 1.0) if attrs.get("antialias") else 1.0
    margin = int(np.ceil(support / step)) + 1
    inputs = np.arange(-margin, axis.n_in + margin)
    weights = kernel((inputs - places[:, None]) * step)
    weights /= weights.sum(axis=1, keepdims=True)
    return _folded(weights, axis.n_in, margin, drop=bool(attrs.get("exclude_outside")))


def _folded(weights: Matrix, n_in: int, margin: int, *, drop: bool) -> Matrix:
    """Weights of places outside go to the edge, or are dropped and made up for by the others."""
    inner = weights[:, margin : margin + n_in].copy()
    if drop:
        return np.asarray(inner / inner.sum(axis=1, keepdims=True))
    inner[:, 0] += weights[:, :margin].sum(axis=1)
    inner[:, -1] += weights[:, margin + n_in :].sum(axis=1)
    return inner


def _coordinates(axis: ResizedAxis, mode: str) -> Matrix:
    """Place of every output on the axis of the inputs."""
    out, scale = np.arange(axis.n_out, dtype=np.float64), axis.scale
    if mode == "align_corners":
        return out * (axis.n_in - 1) / max(axis.n_in * scale - 1, 1) if axis.n_out > 1 else 0 * out
    if mode == "asymmetric":
        return np.asarray(out / scale)
    if mode == "pytorch_half_pixel" and axis.n_out == 1:
        return 0 * out
    places = (out + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        adjustment = axis.n_out / (axis.n_in * scale)
        places += axis.n_in / 2 * (1 - adjustment)
    return np.asarray(places)


_ROUNDINGS: dict[str, Callable[[Matrix], Matrix]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _linear(distance: Matrix) -> Matrix:
    return np.asarray(np.maximum(1 - np.abs(distance), 0))


def _cubic(a: float) -> Callable[[Matrix], Matrix]:
    """Keys' kernel with slope ``a`` at distance one."""

    def kernel(distance: Matrix) -> Matrix:
        t = np.abs(distance)
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((t - 5) * t + 8) * t * a - 4 * a
        return near * (t <= 1) + far * ((t > 1) & (t < 2))

    return kernel

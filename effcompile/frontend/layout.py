"""Networks with their channels last, where the convolution family can then serve them.

ONNX puts channels before pixels. A tensor core wants the terms of its sums, so the channels, next
to each other, and a network that keeps them so transposes only its inputs and outputs::

    conv, add, relu, pool, conv 1x1, ...         channels first
    transpose, conv, add, relu, pool, conv 1x1, ..., transpose

Convolutions whose kernel has one place and no stride are matrix products in either order: they take
that of their neighbours, be it the transpose of a model that holds its channels last. Few channels
(an image's colours) become a window: with zeros around the image, all places of one row of the
kernel lie next to each other, and count as channels.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from effcompile.frontend.kernels.marking import type_of
from effcompile.frontend.matchers.expressions import Scope
from effcompile.frontend.patterns import match_patterns
from effcompile.frontend.windows import window_of
from schedules import _tvm
from schedules.conv import serves
from schedules.dtypes import HALF
from schedules.target import Target

LAST = ["NHWC", "OHWI"]
TO_FIRST = [0, 3, 1, 2]

logger = logging.getLogger(__name__)


def channels_last(target: Target) -> Any:
    """The pass, for a graph of operators; it does nothing where the family does not serve."""
    tvm = _tvm.load()
    from tvm.relax import transform

    before = match_patterns([(_full_rank,)])
    behind = match_patterns([(_window, _joined_transposes)])

    def run(module: Any, _context: Any) -> Any:
        if not serves(target) or not _to_be_last(module):
            return module
        try:
            ranked = before(module)
            layouts = partial(_layouts, last=_to_be_last(ranked))
            return behind(transform.ConvertLayout({}, layouts)(ranked))
        except (RuntimeError, TypeError, ValueError) as error:
            # Correct either way: an operator whose layout TVM cannot follow must not end an import.
            logger.warning("channels stay first: %s", str(error).strip().splitlines()[-1])
            return module

    return tvm.transform.module_pass(run, opt_level=0, name="ChannelsLast")


def _layouts(call: Any, *, last: Sequence[Any]) -> dict[str, list[str]]:
    """What TVM's pass asks of every operator; without an answer it goes by its inputs."""
    return {"relax.nn.conv2d": LAST} if any(call.same_as(one) for one in last) else {}


def _to_be_last(module: Any) -> list[Any]:
    """Convolutions that the family computes, and plain ones of images whose channels were last."""
    tvm = _tvm.load()
    from tvm import relax

    found = []
    for _, function in module.functions_items():
        if not isinstance(function, tvm.relax.Function):
            continue
        values = relax.analysis.get_var2val(function)
        scope = Scope(builder=None, lookup=values.get)
        found += [one for one in values.values() if _is_served(one) or _was_last(one, scope)]
    return found


def _is_served(call: Any) -> bool:
    """Whether the family computes it, and no other one does in any layout."""
    return _is_half_convolution(call) and not _is_plain(call)


def _was_last(call: Any, scope: Scope) -> bool:
    """Whether it is a plain convolution of an image that was transposed for its sake."""
    if not _is_half_convolution(call) or not _is_plain(call):
        return False
    transposed = scope.call(call.args[0], "permute_dims")
    return transposed is not None and [int(one) for one in transposed.attrs.axes or ()] == TO_FIRST


def _is_half_convolution(call: Any) -> bool:
    """Whether it is one of 16-bit floats, of known shapes and without groups."""
    name = getattr(getattr(call, "op", None), "name", "")
    if name != "relax.nn.conv2d" or int(call.attrs.groups) != 1:
        return False
    (image, dtype), (weight, _) = map(type_of, call.args)
    return dtype in HALF and all(isinstance(extent, int) for extent in (*image, *weight))


def _is_plain(call: Any) -> bool:
    """One place and no stride: a matrix product."""
    weight = type_of(call.args[1])[0]
    places = weight[2:4] if call.attrs.kernel_layout == "OIHW" else weight[1:3]
    return list(places) == [1, 1] and [int(step) for step in call.attrs.strides] == [1, 1]


ELEMENTWISE = tuple(f"relax.{name}" for name in ("add", "subtract", "multiply", "divide"))


def _full_rank(call: Any, scope: Scope) -> Any:
    """``x + scale`` of shapes (n, c, h, w) and (c, 1, 1): both get four dimensions."""
    from tvm import relax

    if call.op.name not in ELEMENTWISE:
        return None
    ranks = [len(type_of(side)[0]) for side in call.args]
    if max(ranks) != 4 or min(ranks) in (0, 4):
        return None
    sides = [
        side if rank in (0, 4) else scope.emit(relax.op.expand_dims(side, list(range(4 - rank))))
        for side, rank in zip(call.args, ranks, strict=True)
    ]
    return relax.Call(call.op, sides, call.attrs)


def _window(call: Any, scope: Scope) -> Any:
    """A convolution of few channels over an image with the zeros of its width around it."""
    from tvm import relax

    if not _is_served(call) or call.attrs.data_layout != "NHWC" or call.attrs.dilation[1] != 1:
        return None
    image, weight = (type_of(side)[0] for side in call.args)
    top, left, bottom, _ = (int(one) for one in call.attrs.padding)
    stride, n_out = int(call.attrs.strides[1]), type_of(call)[0][2]
    window = window_of(image, weight, stride=stride, left=left, n_out=n_out)
    if window is None:
        return None
    more = window.channels - image[3]
    beside = [0, 0, 0, 0, left, window.width - left - image[2], 0, more]
    behind = [0, 0, 0, 0, 0, window.places - weight[2], 0, more]
    padded, widened = (
        scope.emit(relax.op.nn.pad(side, pads)) if any(pads) else side
        for side, pads in zip(call.args, (beside, behind), strict=True)
    )
    return relax.op.nn.conv2d(
        padded,
        widened,
        strides=[int(one) for one in call.attrs.strides],
        padding=[top, 0, bottom, 0],
        dilation=[int(one) for one in call.attrs.dilation],
        data_layout="NHWC",
        kernel_layout="OHWI",
        out_layout="NHWC",
        out_dtype=str(call.attrs.out_dtype),
    )


def _joined_transposes(call: Any, scope: Scope) -> Any:
    """Two transposes in a row as one, and none that changes nothing."""
    from tvm import relax

    if call.op.name != "relax.permute_dims" or call.attrs.axes is None:
        return None
    axes = [int(axis) for axis in call.attrs.axes]
    inner = scope.call(call.args[0], "permute_dims")
    if inner is not None and inner.attrs.axes is None:
        return None
    if inner is not None:
        axes = [int(inner.attrs.axes[axis]) for axis in axes]
    source = call.args[0] if inner is None else inner.args[0]
    if axes == sorted(axes):
        return source
    return None if inner is None else relax.op.permute_dims(source, axes)

"""Half-precision operators that are computed in single precision: products, sums, questions.

The compiler would otherwise accumulate in the dtype of the operands: a float16 sum of
equal terms stops growing at 2048 of them, a bfloat16 one at 256. PyTorch and every
library accumulate in float32, so anything else would not compute the same model.
"""

from __future__ import annotations

from typing import Any

from effcompile.frontend.kernels.marking import type_of
from effcompile.frontend.matchers.expressions import Scope
from schedules.dtypes import HALF

QUESTIONS = ("relax.isnan", "relax.isinf", "relax.isfinite")


def widen_products(call: Any, scope: Scope) -> Any:
    """Matrix products and convolutions with a float32 result, cast back."""
    from tvm import relax

    if call.op.name == "relax.matmul" and type_of(call)[1] in HALF:
        wide = relax.op.matmul(call.args[0], call.args[1], out_dtype="float32")
        return relax.op.astype(scope.emit(wide), type_of(call)[1])
    if call.op.name == "relax.nn.conv2d" and type_of(call)[1] in HALF:
        attrs = call.attrs
        wide = relax.op.nn.conv2d(
            call.args[0],
            call.args[1],
            strides=list(attrs.strides),
            padding=list(attrs.padding),
            dilation=list(attrs.dilation),
            groups=int(attrs.groups),
            data_layout=attrs.data_layout,
            kernel_layout=attrs.kernel_layout,
            out_layout=attrs.out_layout,
            out_dtype="float32",
        )
        return relax.op.astype(scope.emit(wide), type_of(call)[1])
    return None


def widen_sums(call: Any, scope: Scope) -> Any:
    """Sums and means of float32 copies, cast back; the casts fuse with the reduction."""
    from tvm import relax

    if call.op.name not in ("relax.sum", "relax.mean") or type_of(call)[1] not in HALF:
        return None
    operator = relax.op.sum if call.op.name == "relax.sum" else relax.op.mean
    axis = call.attrs.axis
    wide = scope.emit(relax.op.astype(call.args[0], "float32"))
    axes = None if axis is None else [int(each) for each in axis]
    reduced = scope.emit(operator(wide, axes, bool(call.attrs.keepdims)))
    return relax.op.astype(reduced, type_of(call)[1])


def widen_questions(call: Any, scope: Scope) -> Any:
    """Whether an element is finite, infinite or no number: TVM does not know of bfloat16."""
    if call.op.name not in QUESTIONS or type_of(call.args[0])[1] != "bfloat16":
        return None
    from tvm import relax

    return relax.Call(call.op, [scope.emit(relax.op.astype(call.args[0], "float32"))])

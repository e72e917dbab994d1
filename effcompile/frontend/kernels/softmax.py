"""Softmax and log-softmax over the last axis."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.kernels.marking import marked_call


def softmax_call(builder: Any, x: Any, *, log: bool = False, scale: float = 1.0) -> Any:
    """``softmax(scale * x)`` over the last axis, or its logarithm; dtype of ``x``."""

    def definition(data: Any) -> Any:
        return _softmax(data, log=log, scale=scale)

    attrs = {"axis": -1, "log": log, "scale": scale}
    return marked_call(builder, definition, [x], op="softmax", attrs=attrs)


def _softmax(x: Any, *, log: bool, scale: float) -> Any:
    from tvm import te, tirx

    *rows, width = x.shape
    k_max = te.reduce_axis((0, width), "k_max")
    k_sum = te.reduce_axis((0, width), "k_sum")

    def scaled(*index: Any) -> Any:
        value = x(*index).astype("float32")
        return value if scale == 1.0 else value * tirx.const(scale, "float32")

    largest = te.compute(rows, lambda *i: te.max(scaled(*i, k_max), axis=k_max), name="softmax_max")
    raised = te.compute(
        x.shape, lambda *i: te.exp(scaled(*i) - largest(*i[:-1])), name="softmax_exp"
    )
    total = te.compute(rows, lambda *i: te.sum(raised(*i, k_sum), axis=k_sum), name="softmax_sum")
    if log:
        return te.compute(
            x.shape,
            lambda *i: (scaled(*i) - largest(*i[:-1]) - te.log(total(*i[:-1]))).astype(x.dtype),
            name="softmax_log",
        )
    return te.compute(
        x.shape, lambda *i: (raised(*i) / total(*i[:-1])).astype(x.dtype), name="softmax_norm"
    )

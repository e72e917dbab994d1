"""Softmax and log-softmax over the last axis."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.kernels.marking import marked_call


def softmax_call(
    builder: Any, x: Any, *, mask: Any = None, log: bool = False, scale: float = 1.0
) -> Any:
    """``softmax(scale * x + mask)`` over the last axis, or its logarithm; dtype of ``x``.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        x: Shape (..., row).
        mask: Floating point, of the last axes of ``x``, 1 where it is repeated, except for the
            last axis; ``None`` for none.
        log: Whether the logarithm is wanted.
        scale: Factor on ``x``.
    """

    def definition(data: Any, *masks: Any) -> Any:
        return _softmax(data, masks[0] if masks else None, log=log, scale=scale)

    attrs = {"axis": -1, "log": log, "scale": scale}
    inputs = [x] if mask is None else [x, mask]
    return marked_call(builder, definition, inputs, op="softmax", attrs=attrs)


def _softmax(x: Any, mask: Any, *, log: bool, scale: float) -> Any:
    from tvm import te, tirx

    *rows, width = x.shape
    k_max = te.reduce_axis((0, width), "k_max")
    k_sum = te.reduce_axis((0, width), "k_sum")

    def scaled(*index: Any) -> Any:
        value = x(*index).astype("float32")
        value = value if scale == 1.0 else value * tirx.const(scale, "float32")
        return value if mask is None else value + added(*index).astype("float32")

    def added(*index: Any) -> Any:
        """The mask's element, repeated along its axes of extent 1."""
        own = [int(extent) for extent in mask.shape]
        whole = x.shape[len(x.shape) - len(own) :]
        used = index[len(index) - len(own) :]
        pairs = zip(used, own, whole, strict=True)
        return mask(*(0 if size == 1 and full != 1 else place for place, size, full in pairs))

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

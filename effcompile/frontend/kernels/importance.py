"""Importance of keys to the last query; meaning: see ``schedules/importance_problem.py``."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.kernels.marking import marked_call, type_of
from schedules.importance_problem import OP


def importance_call(builder: Any, query: Any, key: Any, *, scale: float | None) -> Any:
    """Importance as one function.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        query: Shape (batch, query heads, query tokens, width).
        key: Shape (batch, key heads, key tokens, width).
        scale: Multiplies the scores; ``None`` means one over the root of the width.

    Returns:
        float32, shape (batch, key tokens).
    """
    factor = float(type_of(query)[0][3]) ** -0.5 if scale is None else scale

    def definition(q: Any, k: Any) -> Any:
        return _importance(q, k, factor)

    return marked_call(builder, definition, [query, key], op=OP, attrs={"scale": factor})


def _importance(q: Any, k: Any, scale: float) -> Any:
    from tvm import te, tirx

    batch, n_heads, n_queries, width = q.shape
    group, n_keys = n_heads // k.shape[1], k.shape[2]
    d = te.reduce_axis((0, width), "d")
    j_max, j_sum = (te.reduce_axis((0, n_keys), name) for name in ("j_max", "j_sum"))
    h_mean = te.reduce_axis((0, n_heads), "h_mean")
    products = te.compute(
        (batch, n_heads, n_keys),
        lambda b, h, j: te.sum(
            q[b, h, n_queries - 1, d].astype("float32") * k[b, h // group, j, d].astype("float32"),
            axis=d,
        ),
        name="importance_products",
    )
    largest = te.compute(
        (batch, n_heads),
        lambda b, h: te.max(products[b, h, j_max] * tirx.const(scale, "float32"), axis=j_max),
        name="importance_max",
    )
    raised = te.compute(
        (batch, n_heads, n_keys),
        lambda b, h, j: te.exp(products[b, h, j] * tirx.const(scale, "float32") - largest[b, h]),
        name="importance_exp",
    )
    total = te.compute(
        (batch, n_heads),
        lambda b, h: te.sum(raised[b, h, j_sum], axis=j_sum),
        name="importance_sum",
    )
    share = te.compute(
        (batch, n_heads, n_keys),
        lambda b, h, j: raised[b, h, j] / (total[b, h] * n_heads.astype("float32")),
        name="importance_share",
    )
    return te.compute(
        (batch, n_keys),
        lambda b, j: te.sum(share[b, h_mean, j], axis=h_mean),
        name="importance",
    )

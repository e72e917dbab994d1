"""Softmax of products of queries and keys, times values, in tensor expressions.

The skeleton of every attention of ours; what scores are made of, and which keys a query may attend,
is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Index = tuple[Any, Any, Any, Any]
"""Row of the batch, head, query, key."""


def scaled_dot_product(
    qkv: tuple[Any, Any, Any],
    *,
    score: Callable[[Any, Index], Any],
    allowed: Callable[[Index], Any],
    name: str,
) -> Any:
    """Mixed values, float32, shape (batch, query heads, queries, value width).

    Args:
        qkv: Queries, keys and values, shape (batch, heads, tokens, width); query head ``h`` reads
            key head ``h // (query heads / key heads)``.
        score: Of the product of a query and a key, float32.
        allowed: Condition under which a query may attend a key, ``None`` if always; a query that
            may attend none gives zeros.
        name: What the names of all stages begin with.
    """
    from tvm import te

    q, k, v = qkv
    group, n_keys = q.shape[1] // k.shape[1], k.shape[2]
    shares = _shares(_scores(q, k, score, allowed, name), allowed, name)
    j = te.reduce_axis((0, n_keys), "j")
    return te.compute(
        (*q.shape[:3], v.shape[3]),
        lambda b, h, i, e: te.sum(
            shares[b, h, i, j] * v[b, h // group, j, e].astype("float32"), axis=j
        ),
        name=f"{name}_mix",
    )


def _scores(
    q: Any,
    k: Any,
    score: Callable[[Any, Index], Any],
    allowed: Callable[[Index], Any],
    name: str,
) -> Any:
    """Scores of all pairs; those that are not allowed have the least float32."""
    from tvm import te, tirx

    shape, group = (*q.shape[:3], k.shape[2]), q.shape[1] // k.shape[1]
    d = te.reduce_axis((0, q.shape[3]), "d")
    products = te.compute(
        shape,
        lambda b, h, i, j: te.sum(
            q[b, h, i, d].astype("float32") * k[b, h // group, j, d].astype("float32"), axis=d
        ),
        name=f"{name}_products",
    )

    def element(b: Any, h: Any, i: Any, j: Any) -> Any:
        result = score(products[b, h, i, j], (b, h, i, j))
        return _where(allowed((b, h, i, j)), result, tirx.min_value("float32"))

    return te.compute(shape, element, name=f"{name}_scores")


def _shares(scores: Any, allowed: Callable[[Index], Any], name: str) -> Any:
    """Softmax of scores along the keys.

    Shares are divided before the second product, not after: a stage behind the product that also
    reads the sums is one that TVM's tiling rule tries to move, and fails.
    """
    from tvm import te, tirx

    rows, one, zero = scores.shape[:3], tirx.const(1, "float32"), tirx.const(0, "float32")
    j_max, j_sum = (te.reduce_axis((0, scores.shape[3]), one) for one in ("j_max", "j_sum"))
    largest = te.compute(
        rows, lambda b, h, i: te.max(scores[b, h, i, j_max], axis=j_max), name=f"{name}_max"
    )

    def exponential(b: Any, h: Any, i: Any, j: Any) -> Any:
        raised = te.exp(scores[b, h, i, j] - largest[b, h, i])
        return _where(allowed((b, h, i, j)), raised, zero)

    raised = te.compute(scores.shape, exponential, name=f"{name}_exp")
    total = te.compute(
        rows, lambda b, h, i: te.sum(raised[b, h, i, j_sum], axis=j_sum), name=f"{name}_sum"
    )
    return te.compute(
        scores.shape,
        lambda b, h, i, j: (
            raised[b, h, i, j] / tirx.Select(total[b, h, i] > zero, total[b, h, i], one)
        ),
        name=f"{name}_probability",
    )


def _where(condition: Any, value: Any, otherwise: Any) -> Any:
    from tvm import tirx

    return value if condition is None else tirx.if_then_else(condition, value, otherwise)

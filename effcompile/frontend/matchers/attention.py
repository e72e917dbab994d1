"""matmul - scale - soft cap - mask - softmax - matmul, found and made one attention."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.constants import constant_array
from effcompile.frontend.kernels.attention import attention_call
from effcompile.frontend.kernels.attention_rule import AttentionRule
from effcompile.frontend.kernels.marking import type_of
from effcompile.frontend.matchers.expressions import Scope, is_last_axis
from effcompile.frontend.matchers.score_masks import filled_scores, masked_sum


def match_attention(call: Any, scope: Scope) -> Any:
    """The attention that a matmul finishes, or ``None``."""
    if call.op.name != "relax.matmul":
        return None
    softmax = scope.call(scope.without_cast(call.args[0]), "nn.softmax")
    if softmax is None or not is_last_axis([softmax.attrs.axis], len(type_of(softmax)[0])):
        return None
    scores, mask = _without_masks(scope.without_cast(softmax.args[0]), scope)
    found = _products(scores, scope)
    if found is None:
        return None
    products, scale, softcap = found
    query, query_scale = scope.scaled(products.args[0])
    key, key_scale = _transposed(products.args[1], scope)
    parts = [query, key, call.args[1]]
    ranks = {len(type_of(part)[0]) for part in parts}
    if key is None or len(ranks) != 1 or not ranks <= {3, 4} or not _fit(parts):
        return None
    rule = AttentionRule(scale=scale * query_scale * key_scale, softcap=softcap)
    return _emitted(scope, parts, rule, mask, type_of(call))


def _products(scores: Any, scope: Scope) -> tuple[Any, float, float] | None:
    """The first product, the factor on it, and the soft cap of what comes out (0 for none)."""
    scores, scale = scope.scaled(scores)
    softcap = 0.0
    bounded = scope.call(scope.without_cast(scores), "tanh")
    if bounded is not None and scale > 0:
        softcap = scale
        scores, scale = scope.scaled(scope.without_cast(bounded.args[0]))
        scale *= softcap
    products = scope.call(scope.without_cast(scores), "matmul")
    return None if products is None else (products, scale, softcap)


def _without_masks(expression: Any, scope: Scope) -> tuple[Any, Any]:
    """Scores before anything that hides keys, and that as one mask, ``None`` if there is none."""
    filled = filled_scores(expression, scope)
    if filled is None:
        return _without_bias(expression, scope)
    scores, mask = filled
    inner, bias = _without_bias(scope.without_cast(scores), scope)
    return inner, mask if bias is None else masked_sum(mask, bias, scope)


def _without_bias(expression: Any, scope: Scope) -> tuple[Any, Any]:
    """Scores and the sum of what is added to them, ``None`` if nothing is."""
    from tvm import relax

    added = scope.call(expression, "add")
    if added is None:
        return expression, None
    for this, other in ((0, 1), (1, 0)):
        inner, earlier = _without_bias(added.args[this], scope)
        mask = added.args[other]
        is_mask = len(type_of(mask)[0]) <= len(type_of(added)[0])
        if is_mask and _products(inner, scope) is not None:
            return inner, mask if earlier is None else scope.emit(relax.op.add(earlier, mask))
    return expression, None


def _transposed(expression: Any, scope: Scope) -> tuple[Any, float]:
    """The keys, tokens before features, with the factor in front of them."""
    from tvm import relax

    expression, scale = scope.scaled(expression)
    if isinstance(scope.resolved(expression), relax.Call):
        moved = scope.call(expression, "permute_dims")
        rank = len(type_of(expression)[0])
        swap = [*range(rank - 2), rank - 1, rank - 2]
        if moved is not None:
            axes = moved.attrs.axes
            order = [int(a) for a in axes] if axes is not None else list(range(rank))[::-1]
            inner, inner_scale = scope.scaled(moved.args[0])
            back = [order[axis] for axis in swap]
            if back == list(range(rank)):
                return inner, scale * inner_scale
            return scope.emit(relax.op.permute_dims(inner, back)), scale * inner_scale
        return scope.emit(relax.op.permute_dims(expression, swap)), scale
    return None, scale


def _fit(parts: list[Any]) -> bool:
    """Whether batch and heads agree: products that broadcast are something else."""
    leading = [type_of(part)[0][:-2] for part in parts]
    shapes = [type_of(part)[0] for part in parts]
    return (
        leading[0] == leading[1] == leading[2]
        and shapes[0][-1] == shapes[1][-1]
        and shapes[1][-2] == shapes[2][-2]
        and all(isinstance(extent, int) for shape in shapes for extent in shape)
    )


def _emitted(
    scope: Scope, parts: list[Any], rule: AttentionRule, mask: Any, result: tuple[list[Any], str]
) -> Any:
    from tvm import relax

    shape, dtype = result
    wide = [
        scope.emit(relax.op.reshape(p, (1, *type_of(p)[0]))) if len(shape) == 3 else p
        for p in parts
    ]
    if mask is not None:
        mask = _with_rank_4(mask, scope)
    mixed = scope.emit(
        attention_call(scope.builder, wide[0], wide[1], wide[2], rule=rule, mask=mask)
    )
    if type_of(mixed)[1] != dtype:
        mixed = scope.emit(relax.op.astype(mixed, dtype))
    return relax.op.reshape(mixed, tuple(shape)) if len(shape) == 3 else mixed


def _with_rank_4(mask: Any, scope: Scope) -> Any:
    from tvm import relax

    shape, dtype = type_of(mask)
    wide = (*[1] * (4 - len(shape)), *shape)
    stored = constant_array(scope.resolved(mask))
    if stored is not None:
        return relax.const(stored.reshape(wide), dtype)
    return scope.emit(relax.op.reshape(mask, wide))

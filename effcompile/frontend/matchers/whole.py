"""Operators that arrive whole, as marked functions."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.kernels.attention import attention_call
from effcompile.frontend.kernels.attention_rule import AttentionRule
from effcompile.frontend.kernels.marking import type_of
from effcompile.frontend.kernels.norms import layer_norm_call, rms_norm_call
from effcompile.frontend.matchers.expressions import Scope, is_last_axis


def mark_norm(call: Any, scope: Scope) -> Any:
    """``relax.nn.layer_norm`` and ``relax.nn.rms_norm`` over the last axis."""
    if call.op.name not in ("relax.nn.layer_norm", "relax.nn.rms_norm"):
        return None
    if not is_last_axis(call.attrs.axes, len(type_of(call)[0])):
        return None
    epsilon = float(call.attrs.epsilon)
    if call.op.name == "relax.nn.rms_norm":
        return rms_norm_call(scope.builder, call.args[0], call.args[1], epsilon=epsilon)
    if not (call.attrs.center and call.attrs.scale):
        return None
    return layer_norm_call(scope.builder, *call.args, epsilon=epsilon)


def mark_attention(call: Any, scope: Scope) -> Any:
    """``relax.nn.attention`` (batch, tokens, heads, width), with or without a bias."""
    from tvm import relax

    if call.op.name not in ("relax.nn.attention", "relax.nn.attention_bias"):
        return None
    if call.attrs.causal_mask not in (None, "TopLeft") or call.attrs.window_size is not None:
        return None
    parts = [scope.emit(relax.op.permute_dims(part, [0, 2, 1, 3])) for part in call.args[:3]]
    scale = None if call.attrs.scale is None else float(call.attrs.scale)
    mixed = attention_call(
        scope.builder,
        *parts,
        rule=AttentionRule(scale=scale, causal=call.attrs.causal_mask == "TopLeft"),
        mask=call.args[3] if len(call.args) > 3 else None,
    )
    return relax.op.permute_dims(scope.emit(mixed), [0, 2, 1, 3])

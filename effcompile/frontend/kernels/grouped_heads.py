"""Keys and values that were repeated for every query head of a group, before they were."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.kernels.marking import type_of


def before_repeats(builder: Any, key: Any, value: Any) -> tuple[Any, Any]:
    """Keys and values of one head per group, where both were repeated alike.

    Attention reads key head ``h // group``, so that copies for the heads of a group
    (``repeat_kv`` and ``repeat_interleave`` in PyTorch) need not exist.
    """
    found = [_source(builder, x) for x in (key, value)]
    if None in found or type_of(found[0])[0][:3] != type_of(found[1])[0][:3]:
        return key, value
    return found[0], found[1]


def _source(builder: Any, x: Any) -> Any:
    """Shape (batch, heads, tokens, width) of what one axis between heads and tokens repeats."""
    from tvm import relax

    whole = _bound(builder, x, "relax.reshape")
    repeated = None if whole is None else _bound(builder, whole.args[0], "relax.broadcast_to")
    if repeated is None:
        return None
    shape, wide = type_of(x)[0], type_of(repeated)[0]
    single = type_of(repeated.args[0])[0]
    if len(wide) != 5 or len(shape) != 4 or not all(isinstance(e, int) for e in shape + wide):
        return None
    batch, heads, group, *rest = wide
    if shape != [batch, heads * group, *rest] or single != [batch, heads, 1, *rest]:
        return None
    inserted = _bound(builder, repeated.args[0], "relax.expand_dims")
    source = repeated.args[0] if inserted is None else inserted.args[0]
    if type_of(source)[0] == [batch, heads, *rest]:
        return source
    return builder.emit(relax.op.reshape(source, (batch, heads, *rest)))


def _bound(builder: Any, expression: Any, name: str) -> Any:
    """The call of a named operator behind an expression, ``None`` if it is none."""
    from tvm import relax

    while isinstance(expression, relax.Var):
        expression = builder.lookup_binding(expression)
    if not isinstance(expression, relax.Call):
        return None
    return expression if getattr(expression.op, "name", "") == name else None

"""Functions that carry the name and the attributes of the operator they compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from schedules.workload import Attribute

# TVM's pattern kind "opaque": fusion leaves the function as it is, so the mark stays true.
OPAQUE = 8
GENERIC = "generic"


def marked_call(
    builder: Any,
    definition: Callable[..., Any],
    inputs: Sequence[Any],
    *,
    op: str,
    attrs: Mapping[str, Attribute],
) -> Any:
    """A call of a new function that computes ``definition`` and is marked as ``op``.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        definition: From tensors to the resulting tensor, in tensor expressions.
        inputs: Relax expressions of tensor type.
        op: Name by which own design spaces recognise the workload.
        attrs: What they need to know beside shapes and dtypes.
    """
    marks = _marks(op, attrs)
    return builder.call_te(definition, *inputs, primfunc_name_hint=op, primfunc_attrs=marks)


def with_marks(function: Any, *, op: str, attrs: Mapping[str, Attribute]) -> Any:
    """A function that is already there, marked as :func:`marked_call` marks new ones."""
    for key, value in _marks(op, attrs).items():
        function = function.with_attr(key, value)
    return function


def _marks(op: str, attrs: Mapping[str, Attribute]) -> dict[str, Any]:
    return {
        "effcompile.op": op,
        "effcompile.attrs": msgspec.json.encode(dict(attrs), order="deterministic").decode(),
        "op_pattern": OPAQUE,
    }


def marks_of(function: Any) -> tuple[str, dict[str, Attribute]]:
    """Operator and attributes that the front end recorded on a function."""
    attributes = function.attrs or {}
    if "effcompile.op" not in attributes:
        return GENERIC, {}
    attrs = msgspec.json.decode(
        str(attributes["effcompile.attrs"]), type=dict[str, int | float | str | bool]
    )
    return str(attributes["effcompile.op"]), attrs


def type_of(expression: Any) -> tuple[list[Any], str]:
    """Shape (integers where static) and dtype of a normalised tensor expression."""
    shape = [int(e) if hasattr(e, "value") else e for e in expression.ty.shape.values]
    return shape, str(expression.ty.dtype)

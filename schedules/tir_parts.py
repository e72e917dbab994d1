"""Looking into TIR expressions, and replacing parts of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from schedules import _tvm


def loads_of(expression: Any) -> list[Any]:
    """Elements of buffers that an expression reads, in its order."""
    return _all(expression, _tvm.load().ir.TensorLoad)


def depends_on(expression: Any, variable: Any) -> bool:
    """Whether a variable stands in an expression."""
    return any(one.same_as(variable) for one in _all(expression, _tvm.load().tirx.Var))


def _all(expression: Any, kind: Any) -> list[Any]:
    import tvm_ffi

    found: list[Any] = []
    tvm_ffi.structural_walk(expression, (kind, found.append))
    return found


def with_values(expression: Any, values: Mapping[Any, Any]) -> Any:
    """The expression with values in the place of variables."""

    def value(variable: Any) -> Any:
        found = (new for old, new in values.items() if old.same_as(variable))
        return next(found, variable)

    return _mapped(expression, _tvm.load().tirx.Var, value)


def with_loads(expression: Any, change: Callable[[Any], Any]) -> Any:
    """The expression with ``change(load)`` in the place of every load."""
    return _mapped(expression, _tvm.load().ir.TensorLoad, change)


def _mapped(expression: Any, kind: Any, change: Callable[[Any], Any]) -> Any:
    import tvm_ffi

    return tvm_ffi.structural_map(expression, (kind, change))


def place_of(load: Any) -> Any:
    """Elements of a dense buffer before the one that is loaded, int64."""
    place, stride = _tvm.load().tirx.const(0, "int64"), 1
    for index, extent in zip(reversed(load.indices), reversed(load.source.shape), strict=True):
        place = place + index.astype("int64") * stride
        stride *= int(extent)
    return place

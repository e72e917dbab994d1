"""Elementwise TIR expressions as CUDA text in float32.

Half-precision intermediates stay in float32: fewer roundings than the program asks for,
never more.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite, isnan
from typing import Any, Protocol

BINARY = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/"}
COMPARISONS = {"LT": "<", "LE": "<=", "GT": ">", "GE": ">=", "EQ": "==", "NE": "!="}
LOGIC = {"And": "&&", "Or": "||"}
CALLS = {
    "exp": "expf",
    "exp2": "exp2f",
    "log": "logf",
    "log2": "log2f",
    "log1p": "log1pf",
    "erf": "erff",
    "tanh": "tanhf",
    "sqrt": "sqrtf",
    "rsqrt": "rsqrtf",
    "fabs": "fabsf",
    "floor": "floorf",
    "ceil": "ceilf",
    "pow": "powf",
    "sin": "sinf",
    "cos": "cosf",
}


class Read(Protocol):
    """An element of a buffer in an expression."""

    source: Any
    indices: Any


class NotTranslated(Exception):
    """The expression holds something that has no text here."""


def translated(expression: Any, read: Callable[[Read], str]) -> str:
    """The text of a float or boolean expression.

    Args:
        expression: TIR.
        read: Gives the text of a buffer element.

    Raises:
        NotTranslated: See above.
    """
    kind = type(expression).__name__
    if kind == "TensorLoad":
        return read(expression)
    if kind == "FloatImm":
        return _literal(float(expression.value))
    if kind == "Cast" and _is_float(expression) and _is_float(expression.value):
        return translated(expression.value, read)
    if kind == "Call":
        return _call(expression, read)
    if kind == "Select":
        parts = (expression.condition, expression.true_value, expression.false_value)
        condition, yes, no = (translated(part, read) for part in parts)
        return f"({condition} ? {yes} : {no})"
    return _binary(kind, expression, read)


def _binary(kind: str, expression: Any, read: Callable[[Read], str]) -> str:
    if kind in ("Max", "Min") and _is_float(expression):
        sides = translated(expression.a, read), translated(expression.b, read)
        return f"f{kind.lower()}f({sides[0]}, {sides[1]})"
    sign = {**COMPARISONS, **LOGIC, **(BINARY if _is_float(expression) else {})}.get(kind)
    if sign is None:
        raise NotTranslated
    return f"({translated(expression.a, read)} {sign} {translated(expression.b, read)})"


def _call(expression: Any, read: Callable[[Read], str]) -> str:
    name = str(expression.op.name).rpartition(".")[2]
    arguments = [translated(argument, read) for argument in expression.args]
    if name == "sigmoid":
        return f"(1.0f / (1.0f + expf(-{arguments[0]})))"
    if name == "if_then_else":
        return f"({arguments[0]} ? {arguments[1]} : {arguments[2]})"
    if name not in CALLS:
        raise NotTranslated
    return f"{CALLS[name]}({', '.join(arguments)})"


def _is_float(expression: Any) -> bool:
    return str(getattr(expression, "dtype", expression.ty)).find("float") >= 0


def _literal(value: float) -> str:
    if isnan(value):
        return "__int_as_float(0x7fffffff)"
    if not isfinite(value):
        return "__int_as_float(0x7f800000)" if value > 0 else "__int_as_float(0xff800000)"
    return f"{value!r}f" if "e" in repr(value) or "." in repr(value) else f"{value!r}.0f"

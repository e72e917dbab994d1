"""TIR expressions of integers, and conditions on them, as CUDA text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schedules.tir_text import COMPARISONS, LOGIC, NotTranslated

SIGNS = {"Add": "+", "Sub": "-", "Mul": "*", **COMPARISONS, **LOGIC}
DIVISIONS = {"FloorDiv": "/", "FloorMod": "%"}
FUNCTIONS = {"Max": "max", "Min": "min"}


def index_text(expression: Any, read: Callable[[Any], str], is_sure: Callable[[Any], bool]) -> str:
    """The text of an integer or of a condition on integers.

    Args:
        expression: TIR; variables keep their names.
        read: Gives the text of an element of a buffer of integers.
        is_sure: Whether a condition always holds. C rounds towards zero, so what is divided must
            not be negative.

    Raises:
        NotTranslated: The expression holds something that has no text here.
    """

    def text(part: Any) -> str:
        return index_text(part, read, is_sure)

    kind = type(expression).__name__
    if kind in DIVISIONS and not is_sure(expression.a >= 0):
        raise NotTranslated
    sign = {**SIGNS, **DIVISIONS}.get(kind)
    if sign is not None:
        return f"({text(expression.a)} {sign} {text(expression.b)})"
    if kind in FUNCTIONS:
        return f"{FUNCTIONS[kind]}({text(expression.a)}, {text(expression.b)})"
    if kind == "Select":
        condition, yes, no = expression.condition, expression.true_value, expression.false_value
        return f"({text(condition)} ? {text(yes)} : {text(no)})"
    return text(expression.value) if kind == "Cast" else _leaf(expression, read)


def _leaf(expression: Any, read: Callable[[Any], str]) -> str:
    kind = type(expression).__name__
    if kind == "IntImm":
        return str(int(expression))
    if kind == "Var":
        return str(expression.name)
    if kind == "TensorLoad":
        return read(expression)
    raise NotTranslated

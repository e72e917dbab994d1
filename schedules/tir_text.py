"""Elementwise TIR expressions as CUDA text in float32.

Half-precision intermediates stay in float32: fewer roundings than the program asks for,
never more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


def _unknown(_expression: Any) -> str:
    raise NotTranslated


@dataclass(frozen=True, slots=True)
class Translator:
    """Texts of what is not float arithmetic.

    Attributes:
        read: Of a buffer element.
        index: Of an integer, and of a condition on integers; neither has a text by default.
        branch: Of a condition and what it chooses from, of which only the chosen one may be
            computed.
    """

    read: Callable[[Read], str]
    index: Callable[[Any], str] = _unknown
    branch: Callable[[Any, Callable[[], str], Callable[[], str]], str] | None = None

    def text(self, expression: Any) -> str:
        """The text of a float expression, or of a condition.

        Raises:
            NotTranslated: See above.
        """
        kind = type(expression).__name__
        truth = truth_read(expression)
        if truth is not None:
            return f"({self.read(truth)} != 0.0f)"
        if kind == "TensorLoad":
            return self.read(expression)
        if kind == "FloatImm":
            return _literal(float(expression.value))
        if kind == "Cast" and _is_float(expression):
            return self._cast(expression.value)
        if kind == "Call":
            return self._call(expression)
        return self._several(kind, expression)

    def _several(self, kind: str, expression: Any) -> str:
        if kind == "Select":
            parts = (expression.condition, expression.true_value, expression.false_value)
            condition, yes, no = map(self.text, parts)
            return f"({condition} ? {yes} : {no})"
        if kind == "Not":
            return f"(!{self.text(expression.a)})"
        if kind in COMPARISONS and not _is_float(expression.a):
            return self.index(expression)
        return self._binary(kind, expression)

    def _cast(self, value: Any) -> str:
        truth = truth_read(value)
        if truth is not None:
            return self.read(truth)
        return self.text(value) if _is_float(value) else f"(float)({self.index(value)})"

    def _binary(self, kind: str, expression: Any) -> str:
        if kind in ("Max", "Min") and _is_float(expression):
            return f"f{kind.lower()}f({self.text(expression.a)}, {self.text(expression.b)})"
        sign = {**COMPARISONS, **LOGIC, **(BINARY if _is_float(expression) else {})}.get(kind)
        if sign is None:
            raise NotTranslated
        return f"({self.text(expression.a)} {sign} {self.text(expression.b)})"

    def _call(self, expression: Any) -> str:
        name = str(expression.op.name).rpartition(".")[2]
        if name == "if_then_else":
            return self._choice(*expression.args)
        arguments = list(map(self.text, expression.args))
        if name == "sigmoid":
            return f"(1.0f / (1.0f + expf(-{arguments[0]})))"
        if name not in CALLS:
            raise NotTranslated
        return f"{CALLS[name]}({', '.join(arguments)})"

    def _choice(self, condition: Any, yes: Any, no: Any) -> str:
        if self.branch is not None:
            return self.branch(condition, lambda: self.text(yes), lambda: self.text(no))
        return f"({self.text(condition)} ? {self.text(yes)} : {self.text(no)})"


def translated(expression: Any, read: Callable[[Read], str]) -> str:
    """The text of an expression of floats alone.

    Raises:
        NotTranslated: See above.
    """
    return Translator(read).text(expression)


def truth_read(expression: Any) -> Any:
    """The element of a buffer of truth values that a condition is, ``None`` if it is another one.

    ``where`` of TVM asks whether the element, as an integer, is above 0.
    """
    kind = type(expression).__name__
    if kind == "LT" and type(expression.a).__name__ == "IntImm" and int(expression.a) == 0:
        return truth_read(expression.b)
    if kind == "Cast":
        return None if _is_float(expression) else truth_read(expression.value)
    is_truth = kind == "TensorLoad" and str(expression.source.dtype) == "bool"
    return expression if is_truth else None


def is_about_integers(condition: Any) -> bool:
    """Whether a condition compares nothing but integers."""
    if truth_read(condition) is not None:
        return False
    kind = type(condition).__name__
    if kind in LOGIC:
        return is_about_integers(condition.a) and is_about_integers(condition.b)
    return kind in COMPARISONS and not _is_float(condition.a)


def _is_float(expression: Any) -> bool:
    return str(getattr(expression, "dtype", expression.ty)).find("float") >= 0


def _literal(value: float) -> str:
    if isnan(value):
        return "__int_as_float(0x7fffffff)"
    if not isfinite(value):
        return "__int_as_float(0x7f800000)" if value > 0 else "__int_as_float(0xff800000)"
    return f"{value!r}f" if "e" in repr(value) or "." in repr(value) else f"{value!r}.0f"

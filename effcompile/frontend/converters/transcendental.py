"""Elementwise functions that TVM's code generation lacks for 16-bit floats or for vectors."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.kernels.marking import type_of

NARROW = ("float16", "bfloat16")
# Slope and limit of ``Selu`` in ONNX's definition.
SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def _in_float32(op_type: str) -> None:
    @converter(op_type)
    def convert(node: Node) -> Any:
        """The function of that name, in float32 where the input is narrower."""
        from tvm import relax

        x = node.required(0)
        if type_of(x)[1] not in NARROW:
            return node.stock()
        function = getattr(relax.op, op_type.lower())
        return _narrow(node, node.emit(function(_wide(node, x))))


for _name in ("Asin", "Acos", "Atan", "Asinh", "Acosh", "Atanh"):
    _in_float32(_name)


@converter("Sinh")
def sinh(node: Node) -> Any:
    """``(e^x - e^-x) / 2``; by ``tanh(x/2)`` near zero, where those cancel."""
    from tvm import relax

    x = _wide(node, node.required(0))
    half = _scaled(node, x, 0.5)
    t = node.emit(relax.op.tanh(half))
    rest = node.emit(relax.op.subtract(_number(x, 1.0), node.emit(relax.op.multiply(t, t))))
    near = node.emit(relax.op.divide(_scaled(node, t, 2.0), rest))
    far = _scaled(node, node.emit(relax.op.subtract(*_exponentials(node, x))), 0.5)
    is_near = node.emit(relax.op.less(node.emit(relax.op.abs(x)), _number(x, 1.0)))
    return _narrow(node, node.emit(relax.op.where(is_near, near, far)))


@converter("Cosh")
def cosh(node: Node) -> Any:
    """``(e^x + e^-x) / 2``."""
    from tvm import relax

    both = _exponentials(node, _wide(node, node.required(0)))
    return _narrow(node, _scaled(node, node.emit(relax.op.add(*both)), 0.5))


@converter("Elu")
def elu(node: Node) -> Any:
    """``x`` above zero, ``alpha (e^x - 1)`` below."""
    return _exponential_unit(node, float(node.attrs.get("alpha", 1.0)), 1.0)


@converter("Selu")
def selu(node: Node) -> Any:
    """``Elu`` times ``gamma``."""
    alpha = float(node.attrs.get("alpha", SELU_ALPHA))
    return _exponential_unit(node, alpha, float(node.attrs.get("gamma", SELU_GAMMA)))


def _exponential_unit(node: Node, alpha: float, gamma: float) -> Any:
    from tvm import relax

    if type_of(node.required(0))[1] == "float32":
        return node.stock()
    x = _wide(node, node.required(0))
    zero = _number(x, 0.0)
    grown = node.emit(relax.op.exp(node.emit(relax.op.minimum(x, zero))))
    below = _scaled(node, node.emit(relax.op.subtract(grown, _number(x, 1.0))), alpha)
    total = node.emit(relax.op.add(node.emit(relax.op.maximum(x, zero)), below))
    return _narrow(node, _scaled(node, total, gamma))


def _exponentials(node: Node, x: Any) -> tuple[Any, Any]:
    from tvm import relax

    return node.emit(relax.op.exp(x)), node.emit(relax.op.exp(node.emit(relax.op.negative(x))))


def _number(like: Any, value: float) -> Any:
    from tvm import relax

    return relax.const(value, type_of(like)[1])


def _scaled(node: Node, x: Any, factor: float) -> Any:
    from tvm import relax

    return node.emit(relax.op.multiply(x, _number(x, factor)))


def _wide(node: Node, x: Any) -> Any:
    from tvm import relax

    return node.emit(relax.op.astype(x, "float32")) if type_of(x)[1] in NARROW else x


def _narrow(node: Node, x: Any) -> Any:
    """Back to the dtype of the input."""
    from tvm import relax

    dtype = type_of(node.required(0))[1]
    return x if type_of(x)[1] == dtype else relax.op.astype(x, dtype)

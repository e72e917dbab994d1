"""Elementwise operators for dtypes that the stock importer or TVM's code generation miss."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from effcompile.frontend.constants import constant_array
from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.kernels.marking import type_of

# Exponents up to here become products, which are exact for integers.
LARGEST_UNROLLED_EXPONENT = 8


@converter("Equal")
def equal(node: Node) -> Any:
    """Truth values are compared by their difference: LLVM refuses TVM's comparison of them."""
    from tvm import relax

    operands = node.required(0), node.required(1)
    if not all(_dtype(one) == "bool" for one in operands):
        return node.stock()
    return relax.op.logical_not(node.emit(relax.op.logical_xor(*operands)))


@converter("Pow")
def power(node: Node) -> Any:
    """Base and exponent may differ in dtype; the result has that of the base.

    Small whole exponents become products: fast-math powers of negative numbers are not numbers.
    """
    from tvm import relax

    base, exponent = node.required(0), node.required(1)
    dtypes = _dtype(base), _dtype(exponent)
    if not all(dtypes):
        return node.stock()
    count = _small_count(exponent)
    if count is not None:
        return _repeated_product(node, base, count)
    if "float" in dtypes[0]:
        return _single_power(node, base, exponent)
    wide = [node.emit(relax.op.astype(one, "float64")) for one in (base, exponent)]
    result = node.emit(relax.op.power(*wide))
    if "float" not in dtypes[1]:
        result = node.emit(relax.op.round(result))
    return relax.op.astype(result, dtypes[0])


@converter("Clip")
def clip(node: Node) -> Any:
    """Bounds that are not a number bound nothing; TVM cannot test bfloat16 ones for that."""
    from tvm import relax

    x = node.required(0)
    if _dtype(x) != "bfloat16":
        return node.stock()
    for place, operator, nothing in (
        (1, relax.op.maximum, float("-inf")),
        (2, relax.op.minimum, float("inf")),
    ):
        if node.input(place) is not None:
            x = node.emit(operator(x, _bound(node, node.required(place), nothing)))
    return x


def _bound(node: Node, bound: Any, nothing: float) -> Any:
    from tvm import relax

    known = constant_array(bound)
    if known is not None and not np.isnan(known.astype(np.float32)).any():
        return bound
    wide = node.emit(relax.op.astype(bound, "float32"))
    is_open = node.emit(relax.op.isnan(wide))
    kept = node.emit(relax.op.where(is_open, relax.const(nothing, "float32"), wide))
    return node.emit(relax.op.astype(kept, "bfloat16"))


@converter("OneHot")
def one_hot(node: Node) -> Any:
    """The result has the dtype of the two values; the stock importer widens float32."""
    from tvm import relax

    result = node.emit(node.stock())
    dtype = _dtype(node.required(2))
    return result if _dtype(result) == dtype else relax.op.astype(result, dtype)


@converter("IsInf")
def is_infinite(node: Node) -> Any:
    """Either sign may be left out, which the stock importer overlooks."""
    from tvm import relax

    x = node.required(0)
    signs = [bool(node.attrs.get(f"detect_{name}", 1)) for name in ("negative", "positive")]
    if all(signs):
        return node.stock()
    dtype = _dtype(x)
    wanted = float("inf") if signs[1] else float("-inf")
    found = relax.op.equal(x, relax.const(wanted, dtype))
    return found if any(signs) else relax.op.zeros_like(node.emit(found))


def _small_count(exponent: Any) -> int | None:
    value = constant_array(exponent)
    if value is None or value.size != 1 or value.ndim > 0:
        return None
    number = float(value)
    return int(number) if number in range(LARGEST_UNROLLED_EXPONENT + 1) else None


def _single_power(node: Node, base: Any, exponent: Any) -> Any:
    """The power in float32, as TVM knows it, unless the base is wider; dtype of the base."""
    from tvm import relax

    dtype = _dtype(base)
    wide = "float64" if dtype == "float64" else "float32"
    operands = [_as(node, one, wide) for one in (base, exponent)]
    return _as(node, node.emit(relax.op.power(*operands)), dtype)


def _as(node: Node, x: Any, dtype: str) -> Any:
    from tvm import relax

    return x if _dtype(x) == dtype else node.emit(relax.op.astype(x, dtype))


def _repeated_product(node: Node, base: Any, count: int) -> Any:
    from tvm import relax

    if count == 0:
        return relax.op.ones_like(base)
    return reduce(
        lambda product, _: node.emit(relax.op.multiply(product, base)), range(count - 1), base
    )


def _dtype(expression: Any) -> str:
    """Dtype of a tensor; empty for shapes and scalars, which the stock importer computes with."""
    return type_of(expression)[1] if getattr(expression.ty, "shape", None) is not None else ""

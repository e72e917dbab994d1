"""``Einsum`` of two tensors as a matrix product, which families and patterns know."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.kernels.marking import type_of


@converter("Einsum")
def einsum(node: Node) -> Any:
    """Sums over one operand alone, diagonals, ellipses and other counts of operands stay whole."""
    terms = _terms(str(node.attrs["equation"]).replace(" ", ""), len(node.inputs))
    shapes = [type_of(x)[0] for x in node.inputs]
    if terms is None or not all(isinstance(e, int) for shape in shapes for e in shape):
        return node.stock()
    extents = dict(zip(terms.left + terms.right, shapes[0] + shapes[1], strict=True))
    batch, rows, columns, summed = terms.groups()
    left = _arranged(node, 0, terms.left, (batch, rows, summed), extents)
    right = _arranged(node, 1, terms.right, (batch, summed, columns), extents)
    return _product(node, left, right, (batch + rows + columns, terms.result), extents)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """Labels of the axes of both operands and of the result."""

    left: str
    right: str
    result: str

    def groups(self) -> tuple[str, str, str, str]:
        """Labels of the batch, of rows, of columns, and of what is summed over."""
        both = [label for label in self.left if label in self.right]
        return (
            "".join(label for label in both if label in self.result),
            "".join(label for label in self.left if label not in self.right),
            "".join(label for label in self.right if label not in self.left),
            "".join(label for label in both if label not in self.result),
        )


def _terms(equation: str, n_operands: int) -> _Terms | None:
    """The equation of a product, ``None`` if it is something else."""
    operands, arrow, result = equation.partition("->")
    left, comma, right = operands.partition(",")
    terms = _Terms(left=left, right=right, result=result)
    is_plain = all(part.isalpha() and len(set(part)) == len(part) for part in (left, right))
    if not (arrow and comma and is_plain and n_operands == 2) or len(set(result)) < len(result):
        return None
    _, rows, columns, summed = terms.groups()
    kept = set(left + right) - set(summed)
    return terms if summed and kept == set(result) and set(rows + columns) <= kept else None


def _arranged(
    node: Node, place: int, labels: str, groups: tuple[str, str, str], extents: dict[str, int]
) -> Any:
    """An operand as (batch..., first, second), the labels of each of the last two joined."""
    from tvm import relax

    x = node.required(place)
    order = [labels.index(label) for label in "".join(groups)]
    if order != sorted(order):
        x = node.emit(relax.op.permute_dims(x, order))
    batch, first, second = ([extents[label] for label in group] for group in groups)
    if len(first) != 1 or len(second) != 1:
        x = node.emit(relax.op.reshape(x, (*batch, prod(first), prod(second))))
    return x


def _product(
    node: Node, left: Any, right: Any, labels: tuple[str, str], extents: dict[str, int]
) -> Any:
    """The product with its axes apart again, from the first order of labels to the second."""
    from tvm import relax

    found, wanted = labels
    x = node.emit(relax.op.matmul(left, right))
    shape = [extents[label] for label in found]
    if type_of(x)[0] != shape:
        x = node.emit(relax.op.reshape(x, shape))
    order = [found.index(label) for label in wanted]
    return x if order == sorted(order) else relax.op.permute_dims(x, order)

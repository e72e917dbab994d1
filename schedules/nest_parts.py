"""Parts of loop nests that readers of more than one kind of workload look at."""

from __future__ import annotations

from typing import Any

from schedules.affine import Axes


class NotCovered(Exception):
    """A nest is not of the kind that is looked for."""


def require(condition: bool) -> None:
    """Give up on the nest unless the condition holds.

    Raises:
        NotCovered: It does not.
    """
    if not condition:
        raise NotCovered


def uncast(expression: Any) -> Any:
    """The load under any casts.

    Raises:
        NotCovered: Something else is there.
    """
    while type(expression).__name__ == "Cast":
        expression = expression.value
    require(type(expression).__name__ == "TensorLoad")
    return expression


def shape_of(buffer: Any) -> tuple[int, ...]:
    """Extents of a buffer, all constant."""
    return tuple(int(extent) for extent in buffer.shape)


def extents_of(block: Any) -> Axes:
    """Extents of a block's axes by name, all constant."""
    return {str(axis.var.name): int(axis.dom.extent) for axis in block.iter_vars}


def single(index: Any) -> str:
    """The variable that an index is.

    Raises:
        NotCovered: It is something else.
    """
    require(type(index).__name__ == "Var")
    return str(index.name)

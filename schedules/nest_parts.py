"""Parts of loop nests that readers of more than one kind of workload look at."""

from __future__ import annotations

from typing import Any


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

"""Names, shapes and dtypes of what a compiled module takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from effcompile.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentSpec:
    """One input or output of an entry point.

    Attributes:
        name: Name in the ONNX graph.
        shape: Extents; a string names an open (dynamic) dimension.
        dtype: NumPy-style dtype name, ``bfloat16`` included.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPoint:
    """One callable function of a module.

    Attributes:
        name: ``main``, or for example ``prefill`` and ``decode``.
        inputs: What the caller passes, in order.
        outputs: What comes back, in order.
        parameters: Ids of the stored parameters that follow the inputs in the call.
    """

    name: str
    inputs: tuple[ArgumentSpec, ...]
    outputs: tuple[ArgumentSpec, ...]
    parameters: tuple[str, ...] = ()


def chosen_entry(entries: Sequence[EntryPoint], name: str | None) -> EntryPoint:
    """The entry point of a name, or the only one.

    Raises:
        UsageError: No name was given and there are several, or there is none of that name.
    """
    if name is None and len(entries) == 1:
        return entries[0]
    for entry in entries:
        if entry.name == name:
            return entry
    raise UsageError(
        f"choose an entry point: found {', '.join(entry.name for entry in entries)}, "
        f"given {name or 'none'}. Name one with --entry."
    )

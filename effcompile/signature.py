"""Names, shapes and dtypes of what a compiled module takes and gives."""

from __future__ import annotations

from dataclasses import dataclass


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

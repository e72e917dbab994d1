"""Whether the arrays of a call fit an entry point, said before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from effcompile.errors import BadInput
from effcompile.signature import ArgumentSpec, EntryPoint
from effcompile.tensors import Facts, facts_of


def bind_arguments(entry: EntryPoint, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """Positional and named arguments in the order of the entry point.

    Raises:
        BadInput: One is missing, unknown, or given twice.
    """
    names = [spec.name for spec in entry.inputs]
    if len(args) > len(names):
        raise BadInput(
            f"{_call(entry)} got {len(args)} positional inputs, expected at most {len(names)}. "
            f"{_expected(entry)}"
        )
    bound = dict(zip(names, args, strict=False))
    unknown = [name for name in kwargs if name not in names]
    twice = [name for name in kwargs if name in bound]
    bound.update(kwargs)
    missing = [name for name in names if name not in bound]
    problems = [
        f"{word} {', '.join(found)}"
        for word, found in (("unknown", unknown), ("given twice", twice), ("missing", missing))
        if found
    ]
    if problems:
        raise BadInput(f"{_call(entry)} has inputs {'; '.join(problems)}. {_expected(entry)}")
    return [bound[name] for name in names]


def check_inputs(entry: EntryPoint, values: Sequence[Any]) -> dict[str, int]:
    """Compare shapes and dtypes with the signature.

    Args:
        entry: What is called.
        values: One array per input, in order.

    Returns:
        The value of every open dimension.

    Raises:
        BadInput: The message names the input, what was found, and what is expected.
    """
    dims: dict[str, int] = {}
    set_by: dict[str, str] = {}
    for spec, value in zip(entry.inputs, values, strict=True):
        facts = _facts(entry, spec, value)
        if facts.dtype != spec.dtype:
            raise BadInput(
                f"{_call(entry)} input {spec.name} is {facts.dtype}, expected {spec.dtype}. "
                f"Convert it: {_conversion(spec, facts)}"
            )
        _check_shape(entry, spec, facts, dims, set_by)
    return dims


def describe(spec: ArgumentSpec) -> str:
    """``x: float32[1, 3, T]``."""
    return f"{spec.name}: {spec.dtype}[{', '.join(str(extent) for extent in spec.shape)}]"


def _facts(entry: EntryPoint, spec: ArgumentSpec, value: Any) -> Facts:
    try:
        return facts_of(value)
    except TypeError as error:
        raise BadInput(
            f"{_call(entry)} input {spec.name} cannot be used: {error}; expected numbers as a "
            f"NumPy array or a torch tensor. Make one: numpy.asarray(value, dtype={spec.dtype!r})"
        ) from None


def _check_shape(
    entry: EntryPoint,
    spec: ArgumentSpec,
    facts: Facts,
    dims: dict[str, int],
    set_by: dict[str, str],
) -> None:
    wrong = len(facts.shape) != len(spec.shape) or any(
        isinstance(extent, int) and extent != found
        for extent, found in zip(spec.shape, facts.shape, strict=False)
    )
    if wrong:
        raise BadInput(
            f"{_call(entry)} input {spec.name} has shape {list(facts.shape)}, expected "
            f"{describe(spec)}. Reshape it, or build the module for that shape."
        )
    for axis, (extent, found) in enumerate(zip(spec.shape, facts.shape, strict=True)):
        if isinstance(extent, int):
            continue
        if found < 1:
            raise BadInput(
                f"{_call(entry)} input {spec.name} has {found} elements along {extent} "
                f"(axis {axis}), expected at least 1. Give non-empty inputs."
            )
        if dims.setdefault(extent, found) != found:
            raise BadInput(
                f"{_call(entry)} input {spec.name} has {extent} = {found} (axis {axis}), but "
                f"{set_by[extent]} has {extent} = {dims[extent]}. Make them equal."
            )
        set_by.setdefault(extent, spec.name)


def _conversion(spec: ArgumentSpec, facts: Facts) -> str:
    if facts.kind == "torch":
        return f"{spec.name}.to(torch.{spec.dtype})"
    return f"{spec.name}.astype({spec.dtype!r})"


def _call(entry: EntryPoint) -> str:
    return f"cannot call {entry.name}:"


def _expected(entry: EntryPoint) -> str:
    return f"Expected {entry.name}({'; '.join(describe(spec) for spec in entry.inputs)})."

"""Inputs of an ONNX model and their extents: which are open, and fixing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from effcompile.errors import BadModel, OpenDimensions, UsageError
from effcompile.frontend.light import copy_of, infer_shapes


def data_inputs(model: Any) -> list[Any]:
    """Graph inputs that the caller passes: those without an initialiser of the same name."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def declared_shape(value: Any) -> tuple[int | str, ...] | None:
    """Extents of a graph input; open ones by their name (``?`` if unnamed), ``None`` if no rank."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else dim.dim_param or "?"
        for dim in tensor.shape.dim
    )


def fix_shapes(model: Any, shapes: Mapping[str, Sequence[int]]) -> Any:
    """A copy of the model with the given inputs fixed to the given extents.

    A named open dimension that is fixed by one input takes the same extent in all others.

    Args:
        model: ``onnx.ModelProto``.
        shapes: Input name to extents.

    Raises:
        UsageError: A name is not an input, or a shape does not fit the declared one.
        BadModel: The given extents contradict the graph.
    """
    if not shapes:
        return model
    model = copy_of(model)
    inputs = {value.name: value for value in data_inputs(model)}
    unknown = sorted(set(shapes) - set(inputs))
    if unknown:
        raise UsageError(
            f"no input named {', '.join(map(repr, unknown))}: the model's inputs are "
            f"{', '.join(_described(value) for value in inputs.values())}."
        )
    symbols: dict[str, int] = {}
    for name, shape in shapes.items():
        _bind_symbols(inputs[name], tuple(shape), symbols)
        _set_shape(inputs[name], shape)
    for value in [*inputs.values(), *model.graph.output]:
        _substitute(value, symbols)
    for value in model.graph.output:
        _forget_open_shape(value)
    # What was inferred for open dimensions is stale now.
    del model.graph.value_info[:]
    infer_shapes(model)
    return model


def _described(value: Any) -> str:
    return f"{value.name} {_shape_text(declared_shape(value))}"


def _shape_text(shape: tuple[int | str, ...] | None) -> str:
    return "(unknown rank)" if shape is None else f"({', '.join(map(str, shape))})"


def _bind_symbols(value: Any, shape: tuple[int, ...], symbols: dict[str, int]) -> None:
    declared = declared_shape(value)
    if declared is None:
        return
    fits = len(declared) == len(shape) and all(
        extent > 0 and (isinstance(old, str) or old in (extent, 0))
        for old, extent in zip(declared, shape, strict=True)
    )
    if not fits:
        raise UsageError(
            f"input {value.name} cannot have shape {shape}: the model declares "
            f"{_shape_text(declared)}. Fixed extents must agree; open ones take any positive size."
        )
    for old, extent in zip(declared, shape, strict=True):
        if isinstance(old, str) and old != "?" and symbols.setdefault(old, extent) != extent:
            raise UsageError(
                f"dimension {old} is given as {symbols[old]} and as {extent} (input {value.name}): "
                "a named dimension has one extent in the whole model."
            )


def _set_shape(value: Any, shape: Sequence[int]) -> None:
    tensor_shape = value.type.tensor_type.shape
    del tensor_shape.dim[:]
    for extent in shape:
        tensor_shape.dim.add().dim_value = extent


def _substitute(value: Any, symbols: Mapping[str, int]) -> None:
    if not value.type.tensor_type.HasField("shape"):
        return
    for dim in value.type.tensor_type.shape.dim:
        if dim.dim_param in symbols:
            dim.dim_value = symbols[dim.dim_param]


def _forget_open_shape(value: Any) -> None:
    """Names such as ``2*T`` on outputs cannot be substituted; inference fills them in again."""
    shape = declared_shape(value)
    if shape is not None and any(isinstance(extent, str) or not extent for extent in shape):
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")
            if not dim.dim_value:
                dim.ClearField("dim_value")


def check_dimensions(model: Any, *, allow_open: bool = False) -> None:
    """Refuse a model whose inputs leave dimensions open, or hold nothing.

    Args:
        model: ``onnx.ModelProto``.
        allow_open: Accept named open dimensions; they stay symbolic and are not tuned.

    Raises:
        OpenDimensions: Lists every such input and the options that fix it.
        BadModel: An input has a dimension of size 0.
    """
    _refuse_empty(data_inputs(model))
    open_inputs = [value for value in data_inputs(model) if _is_open(value, allow_open)]
    if not open_inputs:
        return
    listed = "; ".join(_open_text(value) for value in open_inputs)
    options = " ".join(map(_shape_option, open_inputs))
    raise OpenDimensions(
        f"the model leaves dimensions of {len(open_inputs)} of its inputs open: {listed}. "
        f"Tuning needs every extent. Add, with numbers in place of the names: {options}"
    )


def _refuse_empty(values: Sequence[Any]) -> None:
    empty = [value for value in values if 0 in (declared_shape(value) or ())]
    if empty:
        raise BadModel(
            f"nothing can be computed from an input without elements: found "
            f"{', '.join(map(_described, empty))}, expected extents of at least 1. Export the "
            "model with an example that is not empty; if its exporter wrote 0 for an open "
            f"dimension, give the extent: {' '.join(map(_shape_option, empty))}"
        )


def _is_open(value: Any, allow_named: bool) -> bool:
    shape = declared_shape(value)
    if shape is None:
        return bool(value.type.HasField("tensor_type"))
    wanted = [extent for extent in shape if isinstance(extent, str)]
    return any(extent == "?" for extent in wanted) if allow_named else bool(wanted)


def _open_text(value: Any) -> str:
    shape = declared_shape(value)
    if shape is None:
        return f"{value.name} has no declared rank"
    axes = [f"{axis} ({name})" for axis, name in enumerate(shape) if isinstance(name, str)]
    return f"{value.name} {_shape_text(shape)}: dimension {', '.join(axes)}"


def _shape_option(value: Any) -> str:
    shape = declared_shape(value)
    extents = "D0,D1,..." if shape is None else ",".join(str(extent or "?") for extent in shape)
    return f"--shape {value.name}={extents}"

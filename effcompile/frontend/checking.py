"""From an ONNX file to a model that the importer can be given.

Everything a user can have done wrong is found here, before any compilation: the file,
its checks, its open dimensions.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from effcompile.errors import BadModel, OpenDimensions, UsageError
from effcompile.frontend.expanding import expand_operators
from effcompile.frontend.light import take_structure, without_weights
from effcompile.frontend.operators import adopt_contrib_operators

logger = logging.getLogger(__name__)


def load_model(path: str | Path) -> Any:
    """Read and check an ONNX file, external data included.

    Returns:
        The ``onnx.ModelProto`` as :func:`prepare_model` leaves it.

    Raises:
        BadModel: No such file, not ONNX, damaged, or refused by the ONNX checker.
    """
    import onnx

    path = Path(path)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise BadModel(f"no such model file: {path}. Expected an ONNX file, found {found}.")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's decode error differs between its releases
        raise BadModel(
            f"{path} is not an ONNX file, or it is damaged: {error}. "
            f"Found {path.stat().st_size} bytes that do not decode as an ONNX model. "
            "Export it again, or copy it again and compare checksums."
        ) from error
    if not model.graph.node and not model.graph.output:
        raise BadModel(
            f"{path} is not an ONNX file: its {path.stat().st_size} bytes hold no graph. "
            "Expected a model with at least one output."
        )
    _load_external(model, path)
    return _prepared(model, str(path))


def _load_external(model: Any, path: Path) -> None:
    import onnx
    from onnx.external_data_helper import load_external_data_for_model

    try:
        load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise BadModel(
            f"{path} keeps weights in another file that cannot be read: {error}. "
            "Put the data file beside the model under the name it was exported with."
        ) from error


def prepare_model(model: Any, origin: str = "the model") -> Any:
    """Check a model in memory, take its functions apart, name its nodes, infer shapes.

    Args:
        model: ``onnx.ModelProto``; not changed.
        origin: Names the model in messages.

    Raises:
        UnsupportedOperators: Operators of the default domain that do not exist.
        BadModel: The ONNX checker refuses it, or its shapes contradict each other.
    """
    return _prepared(_copy(model), origin)


def _prepared(model: Any, origin: str) -> Any:
    import onnx
    import onnx.inliner

    _name_nodes(model.graph, "")
    adopt_contrib_operators(model)
    light = without_weights(model)
    try:
        onnx.checker.check_model(_with_declared_ranks(light))
        if model.functions:
            # Functions written for another opset are left alone unless converted.
            inlined = onnx.inliner.inline_local_functions(light, convert_version=True)
            take_structure(model, inlined)
        expand_operators(model)
    except (onnx.checker.ValidationError, RuntimeError) as error:
        raise BadModel(
            f"{origin} does not pass the ONNX checker: {_first_lines(error)} "
            "Repair the exporter's output, or export it again with a newer exporter."
        ) from error
    # Nodes that came out of functions have no names yet.
    _name_nodes(model.graph, "")
    _infer_shapes(model, origin)
    return model


def _with_declared_ranks(model: Any) -> Any:
    """The model as the checker wants it: it insists on shapes that importers do not need."""
    missing = [v for v in (*model.graph.input, *model.graph.output) if declared_shape(v) is None]
    if not missing:
        return model
    declared = _copy(model)
    for value in (*declared.graph.input, *declared.graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    return declared


def _infer_shapes(model: Any, origin: str = "the model") -> None:
    """Add the types of intermediate values where ONNX can tell them.

    Raises:
        BadModel: Two declarations of a shape or type contradict each other.
    """
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(
            without_weights(model), check_type=True, strict_mode=True, data_prop=True
        )
    except onnx.shape_inference.InferenceError as error:
        raise BadModel(
            f"shapes or types inside {origin} contradict each other: {_first_lines(error)} "
            "Compare the named node's inputs with what its operator accepts."
        ) from error
    take_structure(model, inferred)


def _copy(model: Any) -> Any:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _first_lines(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:4])[:600]


def _name_nodes(graph: Any, prefix: str) -> None:
    """Give unnamed nodes the name of their first output, so that messages can name them."""
    for node in graph.node:
        if not node.name:
            node.name = prefix + next((name for name in node.output if name), node.op_type)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _name_nodes(attribute.g, f"{node.name}/")


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
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else dim.dim_param or "?"
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
    model = _copy(model)
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
    _infer_shapes(model)
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
        extent > 0 and (isinstance(old, str) or old == extent)
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
    if shape is not None and any(isinstance(extent, str) for extent in shape):
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")


def check_dimensions(model: Any, *, allow_open: bool = False) -> None:
    """Refuse a model whose inputs leave dimensions open.

    Args:
        model: ``onnx.ModelProto``.
        allow_open: Accept named open dimensions; they stay symbolic and are not tuned.

    Raises:
        OpenDimensions: Lists every such input and the options that fix it.
    """
    open_inputs = [value for value in data_inputs(model) if _is_open(value, allow_open)]
    if not open_inputs:
        return
    listed = "; ".join(_open_text(value) for value in open_inputs)
    options = " ".join(f"--shape {value.name}={_option_text(value)}" for value in open_inputs)
    raise OpenDimensions(
        f"the model leaves dimensions of {len(open_inputs)} of its inputs open: {listed}. "
        f"Tuning needs every extent. Add, with numbers in place of the names: {options}"
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


def _option_text(value: Any) -> str:
    shape = declared_shape(value)
    return "D0,D1,..." if shape is None else ",".join(map(str, shape))

"""From an ONNX file to a model that the importer can be given.

What a user can have done wrong is found here, before any compilation: the file and its
checks. Open dimensions: ``frontend.dimensions``.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from effcompile.errors import BadModel
from effcompile.frontend.dimensions import declared_shape
from effcompile.frontend.expanding import expand_operators
from effcompile.frontend.light import (
    copy_of,
    first_lines,
    infer_shapes,
    take_structure,
    without_weights,
)
from effcompile.frontend.mending import mend_dtypes
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
    return _prepared(copy_of(model), origin)


def _prepared(model: Any, origin: str) -> Any:
    import onnx
    import onnx.inliner

    _name_nodes(model.graph, "")
    adopt_contrib_operators(model)
    mend_dtypes(model)
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
            f"{origin} does not pass the ONNX checker: {first_lines(error)} "
            "Repair the exporter's output, or export it again with a newer exporter."
        ) from error
    # Nodes that came out of functions have no names yet.
    _name_nodes(model.graph, "")
    infer_shapes(model, origin)
    return model


def _with_declared_ranks(model: Any) -> Any:
    """The model as the checker wants it: it insists on shapes that importers do not need."""
    missing = [v for v in (*model.graph.input, *model.graph.output) if declared_shape(v) is None]
    if not missing:
        return model
    declared = copy_of(model)
    for value in (*declared.graph.input, *declared.graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    return declared


def _name_nodes(graph: Any, prefix: str) -> None:
    """Give unnamed nodes the name of their first output, so that messages can name them."""
    for node in graph.node:
        if not node.name:
            node.name = prefix + next((name for name in node.output if name), node.op_type)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _name_nodes(attribute.g, f"{node.name}/")

"""A model without its weights, which checks, inference and inlining do not read.

They serialise what they are given, several times; and no more than 2 GiB can be serialised.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from effcompile.errors import BadModel

# Smaller initialisers may hold shapes, axes or bounds that inference follows.
MOST_ELEMENTS = 1 << 16
_STRUCTURE = ("node", "output", "value_info")


def without_weights(model: Any) -> Any:
    """A copy of an ``onnx.ModelProto`` in which large initialisers are inputs of their type."""
    import onnx

    light = onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions
    )
    graph = model.graph
    light.graph.name = graph.name
    light.graph.input.extend(graph.input)
    light.graph.sparse_initializer.extend(graph.sparse_initializer)
    for field in _STRUCTURE:
        getattr(light.graph, field).extend(getattr(graph, field))
    declared = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if np.prod(tensor.dims, dtype=np.int64) <= MOST_ELEMENTS:
            light.graph.initializer.append(tensor)
        elif tensor.name not in declared:
            light.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return light


def take_structure(model: Any, light: Any) -> None:
    """Give a model the nodes, types and operator sets of its changed light copy."""
    for field in _STRUCTURE:
        _replace(getattr(model.graph, field), getattr(light.graph, field))
    _replace(model.functions, light.functions)
    _replace(model.opset_import, light.opset_import)


def infer_shapes(model: Any, origin: str = "the model") -> None:
    """Add the types of intermediate values where ONNX can tell them.

    Whether operators accept the types is asked only where no bfloat16 is in use: ONNX's lists do
    not name it for every operator that exporters write and we convert.

    Raises:
        BadModel: Two declarations of a shape or type contradict each other.
    """
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(
            without_weights(model),
            check_type=not _has_bfloat16(model.graph),
            strict_mode=True,
            data_prop=True,
        )
    except onnx.shape_inference.InferenceError as error:
        raise BadModel(
            f"shapes or types inside {origin} contradict each other: {first_lines(error)} "
            "Compare the named node's inputs with what its operator accepts."
        ) from error
    take_structure(model, inferred)


def _has_bfloat16(graph: Any) -> bool:
    import onnx

    values = (*graph.input, *graph.output, *graph.value_info)
    declared = {value.type.tensor_type.elem_type for value in values}
    declared |= {tensor.data_type for tensor in graph.initializer}
    return onnx.TensorProto.BFLOAT16 in declared


def copy_of(model: Any) -> Any:
    """A copy of an ``onnx.ModelProto``, weights included."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def first_lines(error: BaseException) -> str:
    """The beginning of a message of several lines, as one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:4])[:600]


def _replace(old: Any, new: Any) -> None:
    del old[:]
    old.extend(new)

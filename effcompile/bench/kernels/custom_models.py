"""ONNX models of one operator of the domain ``effcompile``, with inputs and outputs as given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import TensorProto, helper

_TYPES = {
    "float64": TensorProto.DOUBLE,
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "int8": TensorProto.INT8,
    "uint16": TensorProto.UINT16,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}

Shapes = Mapping[str, tuple[tuple[int, ...], str]]
"""Name to shape and dtype."""


def custom_model(op_type: str, inputs: Shapes, outputs: Shapes, **attrs: Any) -> onnx.ModelProto:
    """A model of one node; inputs in order, an empty name for one that is left out."""

    def values(shapes: Shapes) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, _TYPES[dtype], shape)
            for name, (shape, dtype) in shapes.items()
            if name
        ]

    node = helper.make_node(op_type, list(inputs), list(outputs), domain="effcompile", **attrs)
    graph = helper.make_graph([node], op_type, values(inputs), values(outputs))
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("effcompile", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=10)

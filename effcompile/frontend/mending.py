"""Dtypes that exporters write and ONNX's rules refuse, put right before the rules are asked.

PyTorch's exporter folds a bfloat16 batch norm into float32 weights of a bfloat16 convolution,
and scales a half-precision norm by float32 weights, which ONNX allows but infers wrongly.
"""

from __future__ import annotations

from typing import Any

from effcompile.frontend.operators import DEFAULT_DOMAINS
from effcompile.frontend.tensors import array_of


def mend_dtypes(model: Any) -> None:
    """Give stored weights the float type of the data beside them, and norms operands of one.

    Args:
        model: ``onnx.ModelProto``; changed in place.
    """
    dtypes = _declared_dtypes(model.graph)
    nodes, is_changed = [], False
    for node in model.graph.node:
        if node.domain in DEFAULT_DOMAINS:
            cast = _widened_data(node, dtypes)
            nodes += cast
            is_changed |= bool(cast) or _narrowed_weights(node, model.graph, dtypes)
        nodes.append(node)
    if is_changed:
        del model.graph.node[:]
        model.graph.node.extend(nodes)


def _declared_dtypes(graph: Any) -> dict[str, int]:
    """Element type by name, as far as the model says."""
    values = (*graph.value_info, *graph.input, *graph.output)
    declared = {value.name: value.type.tensor_type.elem_type for value in values}
    return declared | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _widened_data(node: Any, dtypes: dict[str, int]) -> list[Any]:
    """The cast of a norm's data to the wider dtype of its scale, if there has to be one."""
    from onnx import TensorProto, helper

    if node.op_type != "RMSNormalization":
        return []
    data, scale = (dtypes.get(name) for name in node.input[:2])
    if scale != TensorProto.FLOAT or data not in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
        return []
    wide = f"{node.output[0]}/wide"
    cast = helper.make_node("Cast", [node.input[0]], [wide], name=wide, to=scale)
    node.input[0] = wide
    return [cast]


def _narrowed_weights(node: Any, graph: Any, dtypes: dict[str, int]) -> bool:
    """Whether float32 weights were replaced by ones in the 16 bits of the data they meet."""
    from onnx import TensorProto, helper, numpy_helper

    wanted = dtypes.get(node.input[0]) if node.input else None
    if wanted not in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
        return False
    stored = {tensor.name: tensor for tensor in graph.initializer}
    odd = [
        index
        for index in _inputs_like_first(node)
        if node.input[index] in stored and dtypes[node.input[index]] == TensorProto.FLOAT
    ]
    for index in odd:
        narrow = f"{node.input[index]}/{node.name or node.output[0]}"
        value = array_of(stored[node.input[index]])
        value = value.astype(helper.tensor_dtype_to_np_dtype(wanted))
        graph.initializer.append(numpy_helper.from_array(value, narrow))
        node.input[index] = narrow
    return bool(odd)


def _inputs_like_first(node: Any) -> list[int]:
    """Places of the other inputs that the operator's definition wants in the dtype of the first."""
    import onnx

    if not onnx.defs.has(node.op_type):
        return []
    formal = onnx.defs.get_schema(node.op_type).inputs
    if not formal:
        return []
    last = len(formal) - 1
    return [
        place
        for place in range(1, len(node.input))
        if formal[min(place, last)].type_str == formal[0].type_str
    ]

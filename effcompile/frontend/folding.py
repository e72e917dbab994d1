"""What is known before compilation, computed in the ONNX graph with NumPy.

What follows from constants and fixed shapes becomes an initialiser, and batch normalisation
goes into the convolution before it. Doing this here, in float64, is exact and takes
milliseconds; in the compiler each distinct shape would be a kernel to build and run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from effcompile.frontend.known_values import fold_known_values
from effcompile.frontend.quantised import merge_dequantised_products, merge_written_products
from effcompile.frontend.tensors import array_of


def fold(model: Any) -> Any:
    """A copy with constants stored, batch norms folded, and quantised products merged."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _drop_defaulted_inputs(copy.graph)
    if merge_written_products(copy):
        _drop_unread_nodes(copy.graph)
    fold_known_values(copy)
    _fold_batch_norms(copy.graph)
    merge_dequantised_products(copy.graph)
    _drop_unused_initialisers(copy.graph)
    return copy


def _drop_defaulted_inputs(graph: Any) -> None:
    """Old exporters list every initialiser as an input too; only the data stay inputs."""
    stored = constant_values(graph)
    kept = [value for value in graph.input if value.name not in stored]
    if len(kept) < len(graph.input):
        del graph.input[:]
        graph.input.extend(kept)


def constant_values(graph: Any) -> dict[str, Any]:
    """Initialisers of a graph by name, as ``TensorProto``."""
    return {tensor.name: tensor for tensor in graph.initializer}


def _replace_nodes(graph: Any, nodes: list[Any]) -> None:
    if len(nodes) == len(graph.node):
        return
    del graph.node[:]
    graph.node.extend(nodes)


def _fold_batch_norms(graph: Any) -> None:
    from onnx import numpy_helper

    stored = constant_values(graph)
    producers = {name: node for node in graph.node for name in node.output}
    uses = Counter(_read_names(graph))
    dropped = set()
    for node in graph.node:
        convolution = _convolution_before(node, producers, uses, stored)
        if convolution is None:
            continue
        weight, bias = _folded_weights(convolution, node, stored)
        for role, value in (("weight", weight), ("bias", bias)):
            graph.initializer.append(numpy_helper.from_array(value, f"{node.output[0]}.{role}"))
        inputs = [convolution.input[0], f"{node.output[0]}.weight", f"{node.output[0]}.bias"]
        del convolution.input[:]
        convolution.input.extend(inputs)
        convolution.output[0] = node.output[0]
        dropped.add(node.output[0])
    _replace_nodes(
        graph,
        [
            n
            for n in graph.node
            if not (n.op_type == "BatchNormalization" and n.output[0] in dropped)
        ],
    )


def _read_names(graph: Any) -> Iterator[str]:
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _read_names(attribute.g)
    for value in graph.output:
        yield value.name


def _convolution_before(
    node: Any, producers: dict[str, Any], uses: Counter[str], stored: dict[str, Any]
) -> Any:
    """The convolution whose only reader is this inference-mode batch normalisation."""
    if node.op_type != "BatchNormalization" or node.domain or _is_training(node):
        return None
    before = producers.get(node.input[0])
    if before is None or before.op_type != "Conv" or before.domain or uses[node.input[0]] != 1:
        return None
    parameters = [*node.input[1:5], *(name for name in before.input[1:] if name)]
    return before if all(name in stored for name in parameters) else None


def _is_training(node: Any) -> bool:
    in_use = [name for name in node.output[1:] if name]
    return bool(in_use) or any(a.name == "training_mode" and a.i for a in node.attribute)


def _folded_weights(
    convolution: Any, norm: Any, stored: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of the convolution that also normalises: ``s*W`` and ``s*(b-mean)+beta``."""
    weight = array_of(stored[convolution.input[1]])
    gamma, beta, mean, variance = (
        array_of(stored[name]).astype(np.float64) for name in norm.input[1:5]
    )
    epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
    scale = gamma / np.sqrt(variance + epsilon)
    has_bias = len(convolution.input) > 2 and convolution.input[2]
    bias = array_of(stored[convolution.input[2]]).astype(np.float64) if has_bias else 0.0
    wide = weight.astype(np.float64) * scale.reshape(-1, *[1] * (weight.ndim - 1))
    return wide.astype(weight.dtype), (scale * (bias - mean) + beta).astype(weight.dtype)


def _drop_unread_nodes(graph: Any) -> None:
    """Until every node is read by another one, or gives a result."""
    while True:
        read = set(_read_names(graph))
        kept = [node for node in graph.node if any(name in read for name in node.output)]
        if len(kept) == len(graph.node):
            return
        _replace_nodes(graph, kept)


def _drop_unused_initialisers(graph: Any) -> None:
    read = set(_read_names(graph))
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    if len(kept) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(kept)

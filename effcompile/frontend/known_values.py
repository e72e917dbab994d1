"""Shape arithmetic that exporters leave in the graph, computed before the import.

Many exporters write ``Shape -> Gather -> Concat -> Reshape`` even where every extent is fixed,
and pads, repeats or slice bounds as small calculations of constants. Their results are known:
ONNX's own reference evaluator computes them, shapes are inferred again, and so on until
nothing more becomes known. Branches whose condition is known are put in the place of ``If``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from effcompile.frontend.evaluating import evaluated, opsets_of
from effcompile.frontend.light import MOST_ELEMENTS, without_weights
from effcompile.frontend.tensors import array_of

MOST_ROUNDS = 64
_MOVES = (
    "Cast Concat Constant ConstantOfShape Expand Flatten Gather GatherND Identity Range Reshape "
    "ScatterND Size Slice Squeeze Tile Transpose Unsqueeze Where"
)
_ARITHMETIC = (
    "Abs Add And Ceil CumSum Div Equal Floor Greater GreaterOrEqual Less LessOrEqual Max Min Mod "
    "Mul Neg NonZero Not Or Pow ReduceMax ReduceMin ReduceProd ReduceSum Sign Sqrt Sub Sum Trilu"
)
FOLDABLE = frozenset([*_MOVES.split(), *_ARITHMETIC.split()])


def fold_known_values(model: Any) -> None:
    """Store what follows from constants and fixed shapes.

    Args:
        model: ``onnx.ModelProto``; changed in place.
    """
    for _ in range(MOST_ROUNDS):
        stored = {tensor.name: tensor for tensor in model.graph.initializer}
        n_known = _store_results(model, stored)
        n_known += _take_known_branches(model.graph, stored)
        if n_known == 0:
            return
        _infer_again(model)


def _store_results(model: Any, stored: dict[str, Any]) -> int:
    """Replace nodes by initialisers, in graph order; returns how many."""
    from onnx import numpy_helper

    graph = model.graph
    shapes, results = _fixed_shapes(graph), {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        value = None if node.output[0] in results else _value_of(model, node, stored, shapes)
        if value is None:
            kept.append(node)
            continue
        tensor = numpy_helper.from_array(value, node.output[0])
        graph.initializer.append(tensor)
        stored[tensor.name] = tensor
    n_stored = len(graph.node) - len(kept)
    if n_stored:
        del graph.node[:]
        graph.node.extend(kept)
    return n_stored


def _value_of(
    model: Any, node: Any, stored: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> np.ndarray | None:
    if node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return None
    if node.op_type == "Size" and node.input[0] in shapes:
        return np.array(np.prod(shapes[node.input[0]]), dtype=np.int64)
    if node.op_type == "Shape" and node.input[0] in shapes:
        bounds = {attribute.name: attribute.i for attribute in node.attribute}
        extents = shapes[node.input[0]]
        return np.array(extents[bounds.get("start", 0) : bounds.get("end")], dtype=np.int64)
    if node.op_type not in FOLDABLE or not all(name in stored for name in node.input if name):
        return None
    n_elements = int(np.prod(shapes.get(node.output[0], ()), dtype=np.int64))
    sizes = [n_elements, *(np.prod(stored[n].dims) for n in node.input if n)]
    # Larger results are weights that are moved; those are the compiler's to fold.
    if max(sizes) > MOST_ELEMENTS:
        return None
    return _plain_value(model, node, {name: stored[name] for name in node.input if name})


def _plain_value(model: Any, node: Any, inputs: dict[str, Any]) -> np.ndarray | None:
    """What the reference evaluator gives, ``None`` where it fails or the dtype is not NumPy's."""
    if not all(_is_plain(tensor.data_type) for tensor in inputs.values()):
        return None
    arrays = {name: array_of(tensor) for name, tensor in inputs.items()}
    value = evaluated(node, arrays, opsets_of(model))
    if value is None or value.dtype.kind not in "biuf" or value.size > MOST_ELEMENTS:
        return None
    return value


def _is_plain(data_type: int) -> bool:
    from onnx import helper

    return helper.tensor_dtype_to_np_dtype(data_type).kind in "biuf"


def _fixed_shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    """Shapes without open extents, by value name."""
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shape = value.type.tensor_type.shape
        if value.type.tensor_type.HasField("shape") and all(
            dim.HasField("dim_value") and dim.dim_value >= 0 for dim in shape.dim
        ):
            found[value.name] = tuple(dim.dim_value for dim in shape.dim)
    return found


def _take_known_branches(graph: Any, stored: dict[str, Any]) -> int:
    """Replace every ``If`` of the graph with a known condition by the branch that it takes."""
    nodes, n_taken = [], 0
    for node in graph.node:
        if node.op_type != "If" or node.domain or node.input[0] not in stored:
            nodes.append(node)
            continue
        name = "then_branch" if array_of(stored[node.input[0]]).all() else "else_branch"
        branch = next(attribute.g for attribute in node.attribute if attribute.name == name)
        graph.initializer.extend(branch.initializer)
        nodes += [*branch.node, *_renamed(branch, node)]
        n_taken += 1
    if n_taken:
        del graph.node[:]
        graph.node.extend(nodes)
    return n_taken


def _renamed(branch: Any, node: Any) -> list[Any]:
    from onnx import helper

    return [
        helper.make_node("Identity", [inner.name], [outer], name=f"{node.name}/{outer}")
        for inner, outer in zip(branch.output, node.output, strict=True)
    ]


def _infer_again(model: Any) -> None:
    """Shapes that follow from what is known now."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(without_weights(model), data_prop=True)
    del model.graph.value_info[:]
    model.graph.value_info.extend(inferred.graph.value_info)

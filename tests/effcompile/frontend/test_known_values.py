"""Shape arithmetic that is computed before the import."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from effcompile.frontend.checking import prepare_model
from effcompile.frontend.folding import fold
from effcompile.frontend.known_values import MOST_ELEMENTS
from tests.effcompile.lowered_models import graph_model, lowered, run_lowered

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def node(operator: str, inputs: str, output: str, **attrs: Any) -> Any:
    return helper.make_node(operator, inputs.split(), [output], **attrs)


def constant(name: str, *values: int) -> Any:
    value = numpy_helper.from_array(np.array(values, np.int64))
    return helper.make_node("Constant", [], [name], value=value)


def left(model: Any) -> list[str]:
    return [one.op_type for one in fold(prepare_model(model)).graph.node]


def test_shapes_pads_and_counts_that_are_calculated_become_constants() -> None:
    """As older exporters write ``x.reshape(2, -1)``, ``pad``, ``repeat`` and ``topk``."""
    nodes = [
        node("Shape", "x", "shape"),
        constant("zero", 0),
        node("Gather", "shape zero", "rows"),
        constant("rest", -1),
        node("Concat", "rows rest", "wanted", axis=0),
        node("Reshape", "x wanted", "flat"),
        node("ConstantOfShape", "two", "none", value=helper.make_tensor("v", 7, [1], [0])),
        constant("two", 2),
        node("Concat", "none two zero", "partial", axis=0),
        node("Concat", "partial zero", "pads", axis=0),
        node("Slice", "pads zero four", "padding"),
        constant("four", 4),
        node("Pad", "flat padding", "padded"),
        node("Shape", "padded", "wider"),
        node("Slice", "wider one two", "width"),
        constant("one", 1),
        node("Div", "width two", "half"),
        node("TopK", "padded half", "y"),
        node("Tile", "padded two_two", "z"),
        node("Concat", "two two", "two_two", axis=0),
    ]
    nodes[-3].output.append("places")
    order = [1, 3, 7, 11, 15, 0, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 19, 18]
    model = graph_model([nodes[i] for i in order], {"x": X}, ["y", "z"])
    assert left(model) == ["Reshape", "Pad", "TopK", "Tile"]
    expected = ReferenceEvaluator(model).run(None, {"x": X})
    found = run_lowered(lowered(model), [X])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_branch_that_is_known_takes_the_place_of_the_choice() -> None:
    def branch(operator: str, name: str) -> Any:
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([node(operator, "x", name)], name, [], [value])

    nodes = [
        node("Size", "x", "size"),
        constant("many", 20),
        node("Greater", "size many", "is_large"),
        node(
            "If",
            "is_large",
            "z",
            then_branch=branch("Neg", "minus"),
            else_branch=branch("Abs", "plus"),
        ),
        node("Mul", "z x", "y"),
    ]
    model = graph_model(nodes, {"x": X}, ["y"])
    assert left(model) == ["Neg", "Identity", "Mul"]
    np.testing.assert_array_equal(run_lowered(lowered(model), [X])[0], -X * X)


def test_weights_and_four_bit_values_and_results_stay_nodes() -> None:
    large = np.ones((2, MOST_ELEMENTS), np.float32)
    short = helper.make_tensor("short", TensorProto.INT4, [4], [1, 2, 3, 4])
    nodes = [
        node("Transpose", "large", "moved"),
        node("MatMul", "row moved", "y"),
        node("Reshape", "short shape", "four"),
        node("Cast", "four", "wide", to=TensorProto.FLOAT),
        node("Cast", "shape", "z", to=TensorProto.FLOAT),
    ]
    constants = {"large": large, "short": short, "shape": np.array([2, 2])}
    row = np.ones((1, MOST_ELEMENTS), np.float32)
    model = graph_model(nodes, {"row": row}, ["y", "wide", "z"], constants=constants)
    assert left(model) == ["Transpose", "MatMul", "Reshape", "Cast", "Cast"]


def test_open_extents_are_left_alone() -> None:
    nodes = [node("Shape", "x", "shape"), node("Reshape", "x shape", "y")]
    model = graph_model(nodes, {"x": X}, ["y"])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    assert left(model) == ["Shape", "Reshape"]

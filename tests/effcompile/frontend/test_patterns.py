"""What exporters leave in pieces is found, and computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from effcompile.frontend.kernels.marking import marks_of
from effcompile.lower import LoweredProgram
from tests.effcompile.lowered_models import (
    assert_as_reference,
    graph_model,
    lowered,
    normal,
    operators,
    run_lowered,
)


def scalar(value: float) -> np.ndarray:
    return np.array(value, dtype=np.float32)


def attributes(program: LoweredProgram, op: str) -> dict[str, Any]:
    marks = [marks_of(f) for _, f in program.module.functions_items() if hasattr(f, "body")]
    return next(attrs for name, attrs in marks if name == op)


def attention_nodes(mask: bool, scale: str) -> list[Any]:
    nodes = [
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q", "kt"], ["s0"]),
    ]
    last = "s0"
    if scale:
        nodes.append(helper.make_node(scale, [last, "scale"], ["s1"]))
        last = "s1"
    if mask:
        nodes.append(helper.make_node("Add", [last, "mask"], ["s2"]))
        last = "s2"
    nodes.append(helper.make_node("Softmax", [last], ["p"], axis=-1))
    nodes.append(helper.make_node("MatMul", ["p", "v"], ["y"]))
    return nodes


def heads(tokens: int = 5) -> dict[str, np.ndarray]:
    return {name: normal(2, 3, tokens, 8, seed=i) for i, name in enumerate("qkv")}


@pytest.mark.parametrize("scale", ["", "Mul", "Div"])
def test_attention_in_pieces_is_one_function(scale: str) -> None:
    inputs = heads()
    constants = {"scale": scalar(0.25)} if scale else {}
    model = graph_model(attention_nodes(False, scale), inputs, ["y"], constants=constants)
    program = assert_as_reference(model, inputs)
    assert operators(program) == ["attention"]
    expected = {"": 1.0, "Mul": 0.25, "Div": 4.0}[scale]
    assert attributes(program, "attention")["scale"] == pytest.approx(expected)


def test_constant_triangular_mask_becomes_causal() -> None:
    inputs = heads()
    mask = np.where(np.tril(np.ones((1, 1, 5, 5))), 0, -np.inf).astype(np.float32)
    constants = {"mask": mask, "scale": scalar(0.5)}
    model = graph_model(attention_nodes(True, "Mul"), inputs, ["y"], constants=constants)
    attrs = attributes(assert_as_reference(model, inputs), "attention")
    assert attrs["causal"] is True
    assert attrs["mask"] == "none"


def test_other_masks_stay_inputs() -> None:
    inputs = {**heads(), "mask": normal(1, 1, 5, 5, seed=9)}
    model = graph_model(attention_nodes(True, ""), inputs, ["y"])
    attrs = attributes(assert_as_reference(model, inputs), "attention")
    assert attrs["causal"] is False
    assert attrs["mask"] == "float"


def test_scores_that_are_an_output_as_well_stay_right() -> None:
    inputs = heads()
    model = graph_model(attention_nodes(False, ""), inputs, ["y", "p"])
    assert "attention" in operators(assert_as_reference(model, inputs))


def test_broadcast_products_are_not_taken_for_attention() -> None:
    inputs = heads()
    inputs["v"] = normal(1, 1, 5, 8, seed=4)
    model = graph_model(attention_nodes(False, ""), inputs, ["y"])
    assert operators(assert_as_reference(model, inputs)) == ["softmax"]


RMS_FORMS = {
    "sqrt and divide": [("Sqrt", ["e"], "r"), ("Div", ["x", "r"], "n")],
    "reciprocal": [("Sqrt", ["e"], "t"), ("Reciprocal", ["t"], "r"), ("Mul", ["x", "r"], "n")],
    "one over root": [("Sqrt", ["e"], "t"), ("Div", ["one", "t"], "r"), ("Mul", ["r", "x"], "n")],
}


@pytest.mark.parametrize("form", RMS_FORMS)
@pytest.mark.parametrize("square", ["Pow", "Mul"])
def test_rms_norm_in_pieces_is_one_function(form: str, square: str) -> None:
    second = "two" if square == "Pow" else "x"
    nodes = [
        helper.make_node(square, ["x", second], ["s"]),
        helper.make_node("ReduceMean", ["s", "axes"], ["m"], keepdims=1),
        helper.make_node("Add", ["m", "eps"], ["e"]),
        *(helper.make_node(op, names, [out]) for op, names, out in RMS_FORMS[form]),
        helper.make_node("Mul", ["w", "n"], ["y"]),
    ]
    constants = {
        "two": scalar(2),
        "one": scalar(1),
        "eps": scalar(1e-3),
        "axes": np.array([-1]),
        "w": normal(8, seed=1),
    }
    inputs = {"x": normal(2, 3, 8)}
    program = assert_as_reference(graph_model(nodes, inputs, ["y"], constants=constants), inputs)
    assert operators(program) == ["rms_norm"]
    assert attributes(program, "rms_norm")["epsilon"] == pytest.approx(1e-3)


def layer_norm_nodes() -> list[Any]:
    return [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["d"]),
        helper.make_node("Pow", ["d", "two"], ["s"]),
        helper.make_node("ReduceMean", ["s", "axes"], ["var"], keepdims=1),
        helper.make_node("Add", ["var", "eps"], ["e"]),
        helper.make_node("Sqrt", ["e"], ["r"]),
        helper.make_node("Div", ["d", "r"], ["n"]),
        helper.make_node("Mul", ["n", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
    ]


def test_layer_norm_in_pieces_is_one_function() -> None:
    constants = {
        "two": scalar(2),
        "eps": scalar(1e-5),
        "axes": np.array([-1]),
        "w": normal(8, seed=1),
        "b": normal(8, seed=2),
    }
    inputs = {"x": normal(2, 3, 8)}
    model = graph_model(layer_norm_nodes(), inputs, ["y"], constants=constants)
    assert operators(assert_as_reference(model, inputs)) == ["layer_norm"]


def test_constant_factor_joins_the_softmax() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "f"], ["s"]),
        helper.make_node("LogSoftmax", ["s"], ["y"], axis=-1),
    ]
    inputs = {"x": normal(3, 7)}
    model = graph_model(nodes, inputs, ["y"], constants={"f": scalar(0.5)})
    program = assert_as_reference(model, inputs)
    assert attributes(program, "softmax") == {"axis": -1, "log": True, "scale": 0.5}


@pytest.mark.parametrize(
    ("mask", "marked"), [((7,), 2), ((4, 1, 7), 2), ((1, 3, 1), 1), ((4, 3, 7), 1)], ids=str
)
def test_a_mask_of_whole_rows_joins_the_softmax(mask: tuple[int, ...], marked: int) -> None:
    nodes = [
        helper.make_node("Div", ["x", "f"], ["s"]),
        helper.make_node("Add", ["m", "s"], ["a"]),
        helper.make_node("Softmax", ["a"], ["y"], axis=-1),
    ]
    inputs = {"x": normal(4, 3, 7), "m": normal(*mask, seed=1)}
    model = graph_model(nodes, inputs, ["y"], constants={"f": scalar(4)})
    program = assert_as_reference(model, inputs)
    (function,) = [f for v, f in program.module.functions_items() if v.name_hint == "softmax"]
    assert len(function.params) == marked + 1
    assert attributes(program, "softmax")["scale"] == (0.25 if marked == 2 else 1.0)


def test_softmax_over_another_axis_stays_generic() -> None:
    inputs = {"x": normal(3, 7)}
    model = graph_model([helper.make_node("Softmax", ["x"], ["y"], axis=0)], inputs, ["y"])
    assert operators(assert_as_reference(model, inputs)) == []


def test_marked_functions_do_not_swallow_neighbours() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Softmax", ["r"], ["s"], axis=-1),
        helper.make_node("Add", ["s", "x"], ["y"]),
    ]
    inputs = {"x": normal(3, 7)}
    program = assert_as_reference(graph_model(nodes, inputs, ["y"]), inputs)
    assert operators(program) == ["softmax"]
    names = {variable.name_hint for variable, _ in program.module.functions_items()}
    assert names == {"main", "relu", "softmax", "add"}


@pytest.mark.parametrize("op_type", ["MatMul", "ReduceSum"])
def test_half_precision_accumulates_in_single_precision(op_type: str) -> None:
    # 4096 ones: a float16 sum of them stops growing at 2048.
    x = np.ones((1, 4096), dtype=np.float16)
    constants = {
        "MatMul": {"w": np.ones((4096, 2), dtype=np.float16)},
        "ReduceSum": {"axes": np.array([1])},
    }[op_type]
    node = helper.make_node(op_type, ["x", *constants], ["y"])
    types = {"y": TensorProto.FLOAT16}
    model = graph_model([node], {"x": x}, ["y"], constants=constants, output_types=types)
    np.testing.assert_array_equal(run_lowered(lowered(model), [x])[0], 4096)


def test_half_precision_convolution_accumulates_in_single_precision() -> None:
    x = np.ones((1, 1024, 2, 2), dtype=np.float16)
    weight = np.ones((1, 1024, 2, 2), dtype=np.float16)
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    types = {"y": TensorProto.FLOAT16}
    constants = {"w": weight}
    model = graph_model([node], {"x": x}, ["y"], constants=constants, output_types=types)
    np.testing.assert_array_equal(run_lowered(lowered(model), [x])[0], 4096)

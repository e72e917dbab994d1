"""What is refused before anything is compiled, and in which words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from effcompile.errors import BadModel, OpenDimensions, UnsupportedOperators, UsageError
from effcompile.frontend.checking import load_model, prepare_model
from effcompile.frontend.dimensions import (
    check_dimensions,
    data_inputs,
    declared_shape,
    fix_shapes,
)
from effcompile.frontend.operators import unsupported_operators
from tests.effcompile.lowered_models import graph_model


def open_model() -> onnx.ModelProto:
    """``y = x + z`` with named, shared and unnamed open dimensions."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "z"], ["y"])],
        "graph",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "T", 8]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", None, 8]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "T", 8])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def relu_model() -> onnx.ModelProto:
    x = np.zeros((2, 3), dtype=np.float32)
    return graph_model([helper.make_node("Relu", ["x"], ["y"])], {"x": x}, ["y"])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"no such model file: .*absent\.onnx"):
        load_model(tmp_path / "absent.onnx")


def test_folder_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="found a folder"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello, this is no model", bytes(range(256)) * 4])
def test_foreign_file_is_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(BadModel, match="is not an ONNX file"):
        load_model(path)


def test_truncation_is_refused_wherever_the_graph_is_cut(tmp_path: Path) -> None:
    model = relu_model()
    # The graph comes last in the file, so that every cut goes through it.
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    whole = model.SerializeToString() + bytes([0x3A, len(graph)]) + graph
    path = tmp_path / "model.onnx"
    path.write_bytes(whole)
    assert load_model(path).graph.node[0].op_type == "Relu"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BadModel):
            load_model(path)


def test_checker_failure_is_reported_with_its_reason() -> None:
    model = relu_model()
    model.graph.node[0].input[0] = "nowhere"
    with pytest.raises(BadModel, match=r"ONNX checker.*nowhere"):
        prepare_model(model)


def test_contradicting_shapes_are_reported() -> None:
    inputs = {"a": np.zeros((2, 3), np.float32), "b": np.zeros((4, 5), np.float32)}
    model = graph_model([helper.make_node("MatMul", ["a", "b"], ["y"])], inputs, ["y"])
    with pytest.raises(BadModel, match="contradict each other"):
        prepare_model(model)


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    weight = np.ones((64, 64), dtype=np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    inputs = {"x": np.zeros((1, 64), np.float32)}
    model = graph_model([node], inputs, ["y"], constants={"w": weight})
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin")
    loaded = load_model(path)
    np.testing.assert_array_equal(numpy_helper.to_array(loaded.graph.initializer[0]), weight)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(BadModel, match="keeps weights in another file"):
        load_model(path)


def test_open_dimensions_are_listed_with_the_option_to_add() -> None:
    with pytest.raises(OpenDimensions) as caught:
        check_dimensions(prepare_model(open_model()))
    text = str(caught.value)
    assert "x (batch, T, 8): dimension 0 (batch), 1 (T)" in text
    assert "z (batch, ?, 8): dimension 0 (batch), 1 (?)" in text
    assert "--shape x=batch,T,8 --shape z=batch,?,8" in text


def test_inputs_without_elements_are_refused_as_what_they_are() -> None:
    model = graph_model(
        [helper.make_node("Relu", ["x"], ["y"])], {"x": np.zeros((0, 8), np.float32)}, ["y"]
    )
    with pytest.raises(BadModel, match=r"found x \(0, 8\), expected extents of at least 1"):
        check_dimensions(prepare_model(model))
    check_dimensions(fix_shapes(prepare_model(model), {"x": (4, 8)}))


def test_fixed_shapes_close_shared_names_in_every_input() -> None:
    fixed = fix_shapes(prepare_model(open_model()), {"x": (2, 5, 8)})
    shapes = {value.name: declared_shape(value) for value in data_inputs(fixed)}
    assert shapes == {"x": (2, 5, 8), "z": (2, "?", 8)}
    closed = fix_shapes(fixed, {"z": (2, 5, 8)})
    check_dimensions(closed)
    assert declared_shape(closed.graph.output[0]) == (2, 5, 8)


def test_unknown_input_name_lists_the_right_ones() -> None:
    with pytest.raises(UsageError, match=r"no input named 'w'.*x \(batch, T, 8\), z"):
        fix_shapes(prepare_model(open_model()), {"w": (1,)})


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 9), (2, 0, 8)])
def test_shape_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"input x cannot have shape"):
        fix_shapes(prepare_model(open_model()), {"x": shape})


def test_one_name_cannot_have_two_extents() -> None:
    with pytest.raises(UsageError, match="dimension batch is given as 2 and as 3"):
        fix_shapes(prepare_model(open_model()), {"x": (2, 5, 8), "z": (3, 5, 8)})


def test_named_dimensions_may_stay_open_but_unnamed_may_not() -> None:
    with pytest.raises(OpenDimensions, match="z"):
        check_dimensions(prepare_model(open_model()), allow_open=True)
    fixed = fix_shapes(prepare_model(open_model()), {"z": (2, 5, 8)})
    check_dimensions(fixed, allow_open=True)


def test_local_functions_are_inlined() -> None:
    body = helper.make_function(
        "local",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 20)],
    )
    model = relu_model()
    model.graph.node.append(helper.make_node("Twice", ["y"], ["z"], domain="local"))
    model.graph.output[0].name = "z"
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.functions.append(body)
    prepared = prepare_model(model)
    assert [node.op_type for node in prepared.graph.node] == ["Relu", "Add"]
    assert not prepared.functions


def model_with_unknown_operators() -> onnx.ModelProto:
    """One unknown operator at the top, two inside a branch."""
    result = [helper.make_tensor_value_info("r", TensorProto.FLOAT, [2, 3])]
    inner = helper.make_graph(
        [
            helper.make_node("Alien", ["x"], ["t"], name="first", domain="far"),
            helper.make_node("Stranger", ["t"], ["r"], name="second", domain="far"),
        ],
        "then",
        [],
        result,
    )
    other = helper.make_graph([helper.make_node("Relu", ["x"], ["r"])], "else", [], result)
    nodes = [
        helper.make_node("Foreign", ["x"], ["h"], name="top", domain="far"),
        helper.make_node("If", ["c"], ["y"], name="choice", then_branch=inner, else_branch=other),
    ]
    inputs = {"x": np.zeros((2, 3), np.float32), "c": np.zeros((), np.bool_)}
    model = graph_model(nodes, inputs, ["y"])
    model.opset_import.append(helper.make_opsetid("far", 1))
    return model


def test_every_unknown_operator_is_listed_branches_included() -> None:
    found = unsupported_operators(prepare_model(model_with_unknown_operators()))
    assert [(node.name, node.op_type, node.domain) for node in found] == [
        ("top", "Foreign", "far"),
        ("choice/first", "Alien", "far"),
        ("choice/second", "Stranger", "far"),
    ]


def test_unknown_operators_of_the_default_domain_are_listed_too() -> None:
    model = relu_model()
    for index, name in enumerate(("Zip", "Zap")):
        model.graph.node.append(helper.make_node(name, ["x"], [f"o{index}"], name=name.lower()))
    with pytest.raises(UnsupportedOperators, match=r"2 nodes .*zip \(Zip\); zap \(Zap\)"):
        prepare_model(model)


def test_operators_known_but_not_convertible_are_listed() -> None:
    node = helper.make_node("StringNormalizer", ["x"], ["y"], name="names")
    model = graph_model(
        [node],
        {"x": np.array(["a"], dtype=object)},
        ["y"],
        output_types={"y": TensorProto.STRING},
    )
    assert [found.op_type for found in unsupported_operators(model)] == ["StringNormalizer"]

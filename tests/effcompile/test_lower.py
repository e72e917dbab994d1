"""Lowered models compute what the originals compute, with few and shared parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from effcompile.errors import BadModel, OpenDimensions
from effcompile.export import export_module
from effcompile.extract import extract, extract_tasks
from effcompile.frontend.checking import prepare_model
from effcompile.lower import LoweredProgram, content_hash, lower
from effcompile.model_source import load_builder
from tests.effcompile.lowered_models import CPU, graph_model, lowered, normal, run_lowered

EXAMPLES = Path(__file__).parents[2] / "examples"


def function_names(program: LoweredProgram) -> list[str]:
    return sorted(variable.name_hint for variable, _ in program.module.functions_items())


@pytest.mark.parametrize("example", ["transformer_block", "conv_net"])
def test_examples_agree_with_torch(example: str) -> None:
    source = load_builder(f"{EXAMPLES / example}.py:build")
    model = prepare_model(export_module(source.module, source.example_inputs))
    program = lower({"main": model}, CPU)
    found = run_lowered(program, [x.numpy() for x in source.example_inputs])
    with torch.inference_mode():
        expected = source.module(*source.example_inputs).numpy()
    # float32, sums of up to 1024 products in another order.
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)


def test_convolution_norm_residual_and_activation_are_one_kernel() -> None:
    source = load_builder(f"{EXAMPLES / 'conv_net.py'}:build")
    model = prepare_model(export_module(source.module, source.example_inputs))
    program = lower({"main": model}, CPU)
    kernels = [name for name in function_names(program) if "conv2d" in name]
    assert len(kernels) == 4
    assert all("relu" in name for name in kernels)
    assert not any("batch_norm" in name for name in function_names(program))


def test_onnx_names_survive() -> None:
    inputs = {"in/x.1": normal(2, 3), "0": normal(2, 3, seed=1)}
    node = helper.make_node("Add", list(inputs), ["out:y"])
    entry = lowered(graph_model([node], inputs, ["out:y"])).entries[0]
    assert [spec.name for spec in entry.inputs] == ["in/x.1", "0"]
    assert [(spec.name, spec.shape, spec.dtype) for spec in entry.outputs] == [
        ("out:y", (2, 3), "float32")
    ]


def linear(name: str, weight: np.ndarray, *, rows: int) -> Any:
    node = helper.make_node("MatMul", ["x", "w"], ["h"])
    after = helper.make_node("Relu" if name == "prefill" else "Neg", ["h"], ["y"])
    inputs = {"x": normal(rows, weight.shape[0])}
    return prepare_model(graph_model([node, after], inputs, ["y"], constants={"w": weight}))


def test_entry_points_share_weights_and_equal_functions() -> None:
    weight = normal(32, 32)
    models = {
        "prefill": linear("prefill", weight, rows=4),
        "decode": linear("decode", weight, rows=1),
    }
    models["again"] = linear("decode", weight, rows=1)
    program = lower(models, CPU)
    assert program.parameters.keys() == {content_hash(weight)}
    assert [entry.parameters for entry in program.entries] == [(content_hash(weight),)] * 3
    assert len(function_names(program)) == 3 + 2
    for name, rows, after in (
        ("prefill", 4, lambda h: np.maximum(h, 0)),
        ("decode", 1, np.negative),
        ("again", 1, np.negative),
    ):
        x = normal(rows, 32, seed=5)
        found = run_lowered(program, [x], entry=name)
        np.testing.assert_allclose(found[0], after(x @ weight), rtol=1e-4, atol=1e-5)
    assert [task.n_calls for task in extract_tasks(program, CPU)] == [2, 1]


def test_small_constants_stay_in_the_code() -> None:
    node = helper.make_node("Add", ["x", "c"], ["y"])
    model = graph_model([node], {"x": normal(2, 8)}, ["y"], constants={"c": normal(8)})
    assert lowered(model).parameters == {}


def test_constants_are_folded_before_they_become_parameters() -> None:
    weight = normal(64, 32)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    program = lowered(graph_model([node], {"x": normal(2, 32)}, ["y"], constants={"w": weight}))
    assert list(program.parameters) == [content_hash(np.ascontiguousarray(weight.T))]


def test_shape_constants_stay_constants() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Reshape", ["x", "flat"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Reshape", ["r", "s"], ["y"]),
    ]
    x = normal(4, 8)
    model = graph_model(nodes, {"x": x}, ["y"], constants={"flat": np.array([-1, 16])})
    program = lowered(model)
    assert program.parameters == {}
    np.testing.assert_array_equal(run_lowered(program, [x])[0], np.maximum(x, 0))


def test_unused_inputs_are_reported() -> None:
    inputs = {"x": normal(2, 3), "spare": normal(4)}
    model = graph_model([helper.make_node("Relu", ["x"], ["y"])], inputs, ["y"])
    program = lowered(model)
    assert program.unused_inputs == ("main/spare",)
    found = run_lowered(program, list(inputs.values()))
    np.testing.assert_array_equal(found[0], np.maximum(inputs["x"], 0))


@pytest.mark.parametrize("taken", [True, False])
def test_branches_compute_and_keep_their_weights_outside(taken: bool) -> None:
    weight = normal(32, 16)
    result = [helper.make_tensor_value_info("r", TensorProto.FLOAT, [2, 16])]
    matmul = helper.make_node("MatMul", ["x", "w"], ["r"])
    half = helper.make_node("Slice", ["x", "begin", "end", "axis"], ["r"])
    node = helper.make_node(
        "If",
        ["c"],
        ["y"],
        then_branch=helper.make_graph([matmul], "then", [], result),
        else_branch=helper.make_graph([half], "else", [], result),
    )
    inputs = {"x": normal(2, 32), "c": np.array(taken)}
    constants = {
        "w": weight,
        "begin": np.array([0]),
        "end": np.array([16]),
        "axis": np.array([1]),
    }
    model = graph_model([node], inputs, ["y"], constants=constants)
    program = lowered(model)
    found = run_lowered(program, list(inputs.values()))
    expected = ReferenceEvaluator(model).run(None, inputs)[0]
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)
    assert list(program.parameters) == [content_hash(weight)]


def open_linear() -> Any:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Softmax", ["h"], ["y"], axis=-1),
        ],
        "graph",
        [value("x", TensorProto.FLOAT, ["tokens", 32])],
        [value("y", TensorProto.FLOAT, ["tokens", 16])],
        initializer=[numpy_helper.from_array(normal(32, 16), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return prepare_model(model)


def test_open_dimensions_are_refused_unless_allowed() -> None:
    with pytest.raises(OpenDimensions, match="--shape x=tokens,32"):
        lower({"main": open_linear()}, CPU)
    program = lower({"main": open_linear()}, CPU, allow_open=True)
    assert program.entries[0].inputs[0].shape == ("tokens", 32)
    assert program.entries[0].outputs[0].shape == ("tokens", 16)
    assert type(program.entries[0].inputs[0].shape[0]) is str, "TVM's own strings are no JSON"
    for rows in (1, 7):
        x = normal(rows, 32, seed=rows)
        raised = np.exp(x @ normal(32, 16))
        expected = raised / raised.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(run_lowered(program, [x])[0], expected, rtol=1e-4, atol=1e-6)
    extraction = extract(program, CPU)
    assert extraction.tasks == ()
    assert {each.reason for each in extraction.left_out} == {
        "a dimension is open: its kernel serves every size"
    }


@pytest.mark.parametrize("name", ["T", "R", "I", "N", "tokens"])
def test_open_dimensions_keep_the_names_of_the_model(name: str) -> None:
    nodes = [helper.make_node("Concat", ["x", "x"], ["y"], axis=0)]
    model = graph_model(nodes, {"x": normal(2, 4)}, ["y"])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = name
    (entry,) = lowered(model, allow_open=True).entries
    assert entry.inputs[0].shape == (name, 4)
    assert entry.outputs[0].shape == (f"{name} * 2", 4)


def test_node_that_cannot_be_imported_is_named() -> None:
    node = helper.make_node("Upsample", ["x", "s"], ["y"], name="bigger", mode="cubic")
    constants = {"s": np.array([1, 1, 2, 2], dtype=np.float32)}
    model = graph_model([node], {"x": normal(1, 1, 4, 4)}, ["y"], constants=constants, opset=9)
    with pytest.raises(BadModel, match=r"bigger \(Upsample\)"):
        lowered(model)


def test_extraction_says_why_views_and_small_copies_are_left_out() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("Softmax", ["t"], ["s"], axis=-1),
        helper.make_node("Reshape", ["s", "shape"], ["y"]),
    ]
    constants = {"shape": np.array([2, 12])}
    program = lowered(graph_model(nodes, {"x": normal(4, 6)}, ["y"], constants=constants))
    extraction = extract(program, CPU)
    assert [each.task.workload.op for each in extraction.tasks] == ["softmax"]
    assert {each.function: each.reason for each in extraction.left_out} == {
        "transpose": "moves 192 bytes without arithmetic",
        "reshape": "a view of its input: no kernel runs",
    }


def test_function_of_very_many_stages_keeps_its_default_schedule() -> None:
    ends = [f"h{i}" for i in range(61)]
    nodes = [
        helper.make_node("Add" if i % 2 else "Mul", [ends[i], "x"], [ends[i + 1]])
        for i in range(60)
    ]
    x = normal(64, 512)
    extraction = extract(lowered(graph_model(nodes, {"x": x, "h0": x}, ["h60"])), CPU)
    assert not extraction.tasks
    assert [one.reason.partition(":")[0] for one in extraction.left_out] == [
        "computes in 60 stages"
    ]


def test_task_weight_counts_calls() -> None:
    nodes = [helper.make_node("Softmax", [f"h{i}"], [f"h{i + 1}"], axis=-1) for i in range(3)]
    tasks = extract_tasks(lowered(graph_model(nodes, {"h0": normal(4, 6)}, ["h3"])), CPU)
    assert [(task.n_calls, task.task.weight) for task in tasks] == [(3, 3)]
    workload = tasks[0].task.workload
    assert workload.attrs == {"axis": -1, "log": False, "scale": 1.0}
    assert [spec.shape for spec in (*workload.inputs, *workload.outputs)] == [(4, 6), (4, 6)]


def test_lowering_twice_gives_the_same_tasks() -> None:
    source = load_builder(f"{EXAMPLES / 'conv_net.py'}:build")
    model = prepare_model(export_module(source.module, source.example_inputs))
    first, second = (extract_tasks(lower({"main": model}, CPU), CPU) for _ in range(2))
    assert [task.task.task_id for task in first] == [task.task.task_id for task in second]


def test_empty_outputs_are_refused_and_empty_parts_are_nothing_to_tune() -> None:
    constants = {"from": np.array([0]), "to": np.array([0]), "axis": np.array([1])}
    nodes = [
        helper.make_node("Slice", ["x", "from", "to", "axis"], ["none"]),
        helper.make_node("Concat", ["none", "x"], ["all"], axis=1),
        helper.make_node("Relu", ["all"], ["y"]),
    ]
    x = {"x": np.zeros((64, 512), np.float32)}
    program = lowered(graph_model(nodes, x, ["y"], constants=constants))
    (one,) = extract(program, CPU).tasks
    assert one.task.workload.outputs[0].shape == (64, 512)
    with pytest.raises(BadModel, match=r"none would hold nothing: its shape is \(64, 0\)"):
        lowered(graph_model(nodes[:1], x, ["none"], constants=constants))

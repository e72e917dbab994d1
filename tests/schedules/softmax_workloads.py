"""Softmax workloads: plain ones, and with a mask as the front end makes them of ONNX models."""

from __future__ import annotations

from functools import cache

import numpy as np
from onnx import helper, numpy_helper

from effcompile.extract import extract_tasks
from effcompile.frontend.checking import prepare_model
from effcompile.lower import lower
from schedules import _tvm
from schedules.programs import workload_of
from schedules.workload import Workload
from tests.schedules.merge_workloads import CPU
from tests.schedules.norm_workloads import TYPES

SCALE = 0.5


def plain(
    shape: tuple[int, ...], dtype: str = "float32", *, log: bool = False, scale: float = 1.0
) -> Workload:
    """``softmax(scale * x)`` over the last axis, or its logarithm."""
    _tvm.load()
    from tvm import te, topi

    x = te.placeholder(shape, dtype, name="A")
    function = te.create_prim_func([x, topi.nn.softmax(x, axis=-1)])
    attrs = {"axis": -1, "log": log, "scale": scale}
    return workload_of(function, name="softmax", op="softmax", attrs=attrs)


@cache
def masked(
    shape: tuple[int, ...], mask: tuple[int, ...], dtype: str = "float32", *, log: bool = False
) -> Workload:
    """``softmax(x / 2 + mask)``."""
    kind = TYPES[dtype]
    half = numpy_helper.from_array(np.array(SCALE, np.float32), "half32")
    nodes = [
        helper.make_node("Cast", ["half32"], ["half"], to=kind),
        helper.make_node("Mul", ["x", "half"], ["scaled"]),
        helper.make_node("Add", ["scaled", "mask"], ["scores"]),
        helper.make_node("LogSoftmax" if log else "Softmax", ["scores"], ["y"], axis=-1),
    ]
    inputs = [
        helper.make_tensor_value_info(name, kind, dims)
        for name, dims in (("x", shape), ("mask", mask))
    ]
    outputs = [helper.make_tensor_value_info("y", kind, shape)]
    graph = helper.make_graph(nodes, "masked", inputs, outputs, initializer=[half])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    (extracted,) = extract_tasks(lower({"main": prepare_model(model)}, CPU), CPU)
    return extracted.task.workload

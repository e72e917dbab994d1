"""Workloads of the row norms, as the front end makes them of ONNX models."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from effcompile.extract import extract_tasks
from effcompile.frontend.checking import prepare_model
from effcompile.lower import lower
from schedules.workload import Workload
from tests.schedules.merge_workloads import CPU

TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}


def norm_model(
    shape: tuple[int, ...],
    dtype: str,
    *,
    op_type: str,
    bias: bool,
    modulated: bool,
    residual: tuple[int, ...] = (),
    keeps_sum: bool = False,
) -> onnx.ModelProto:
    """A norm with its parameters as inputs, what is added before it, and what diffusion
    transformers do after it."""
    kind, width, groups = TYPES[dtype], shape[-1], (shape[0], *[1] * (len(shape) - 2), shape[-1])
    parameters = {"w": (width,), **({"b": (width,)} if bias else {})}
    inputs = {"x": shape, **({"r": residual} if residual else {}), **parameters}
    rows = "total" if residual else "x"
    nodes = [helper.make_node("Add", ["x", "r"], ["total"])] if residual else []
    nodes += [helper.make_node(op_type, [rows, *parameters], ["n"], axis=-1, epsilon=1e-5)]
    one = numpy_helper.from_array(np.ones(1, np.float32), "one32")
    if modulated:
        inputs |= {"scale": groups, "shift": groups}
        nodes += [
            helper.make_node("Cast", ["one32"], ["one"], to=kind),
            helper.make_node("Add", ["scale", "one"], ["factor"]),
            helper.make_node("Mul", ["n", "factor"], ["scaled"]),
            helper.make_node("Add", ["scaled", "shift"], ["y"]),
        ]
    values = [helper.make_tensor_value_info(name, kind, dims) for name, dims in inputs.items()]
    names = ["y" if modulated else "n", *(["total"] if keeps_sum else [])]
    results = [helper.make_tensor_value_info(name, kind, shape) for name in names]
    graph = helper.make_graph(nodes, "norm", values, results, initializer=[one] * modulated)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


@cache
def norm(
    shape: tuple[int, ...],
    dtype: str,
    *,
    op_type: str = "LayerNormalization",
    bias: bool = False,
    modulated: bool = False,
    residual: tuple[int, ...] = (),
    keeps_sum: bool = False,
) -> Workload:
    """The one workload of such a model."""
    model = norm_model(
        shape,
        dtype,
        op_type=op_type,
        bias=bias,
        modulated=modulated,
        residual=residual,
        keeps_sum=keeps_sum,
    )
    (extracted,) = extract_tasks(lower({"main": prepare_model(model)}, CPU), CPU)
    return extracted.task.workload


def small_workloads() -> dict[str, Workload]:
    """One ragged workload per form."""
    return {
        "layer": norm((3, 5, 96), "float16"),
        "layer with bias": norm((33, 100), "bfloat16", bias=True),
        "layer of odd rows": norm((65, 333), "float32", bias=True),
        "layer, modulated": norm((2, 9, 64), "bfloat16", modulated=True),
        "layer, bias, modulated": norm((4, 7, 48), "float32", bias=True, modulated=True),
        "rms": norm((3, 5, 96), "bfloat16", op_type="RMSNormalization"),
        "rms, modulated": norm((3, 4, 40), "float16", op_type="RMSNormalization", modulated=True),
        "rms of a sum that stays": norm(
            (5, 13, 96),
            "bfloat16",
            op_type="RMSNormalization",
            residual=(5, 13, 96),
            keeps_sum=True,
        ),
        "layer of a sum": norm((33, 100), "float16", bias=True, residual=(33, 100)),
        "layer of places, modulated": norm(
            (4, 7, 48), "float32", modulated=True, residual=(7, 48), keeps_sum=True
        ),
        "one element": norm((7, 1), "float32", op_type="RMSNormalization"),
    }

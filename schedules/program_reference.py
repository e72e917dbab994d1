"""A workload's own program in float64, compiled for this CPU."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from schedules import _tvm
from schedules.cpu_default import cpu_schedule
from schedules.dtypes import is_float
from schedules.workload import Workload

FLOATS = ("float16", "bfloat16", "float32")


def run_program(workload: Workload, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a workload by its program.

    Args:
        workload: What to compute.
        inputs: One array per input, in call order, in the workload's dtypes.
    """
    tvm = _tvm.load()
    arrays = [_raised(array) for array in inputs]
    arrays += [
        np.zeros(spec.shape, dtype=spec.dtype if not is_float(spec.dtype) else "float64")
        for spec in workload.outputs
    ]
    tensors = [tvm.runtime.tensor(np.require(array, requirements="C")) for array in arrays]
    _compiled(workload.program)["main"](*tensors)
    return [tensor.numpy() for tensor in tensors[len(inputs) :]]


def _raised(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if is_float(array.dtype.name) else array


@lru_cache(maxsize=8)
def _compiled(program: str) -> Any:
    tvm = _tvm.load()
    function = cpu_schedule(tvm.ir.load_json(raise_floats(program)))
    target = tvm.target.Target(
        {"kind": "llvm", "mcpu": _host_cpu(), "num-cores": os.cpu_count() or 1}
    )
    with target:
        return tvm.compile(tvm.IRModule({"main": function}), target=target)


def _host_cpu() -> str:
    import tvm_ffi

    return str(tvm_ffi.get_global_func("target.llvm_get_system_cpu")())


def raise_floats(program: str) -> str:
    """A program in TVM's JSON form with every float type replaced by float64."""
    graph = msgspec.json.decode(program)
    for node in graph["nodes"]:
        _raise_node(node)
    return msgspec.json.encode(graph).decode()


def _raise_node(node: dict[str, Any]) -> None:
    data = node.get("data")
    if isinstance(data, dict):
        node["data"] = {key: _raised_dtype(key, value) for key, value in data.items()}
    elif node.get("type") in ("DataType", "dtype"):
        node["data"] = _raised_dtype("dtype", data)


def _raised_dtype(key: str, value: Any) -> Any:
    if key == "dtype" and isinstance(value, str):
        base, _, lanes = value.partition("x")
        if base in FLOATS:
            return "float64" + (f"x{lanes}" if lanes else "")
    return value

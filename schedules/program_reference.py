"""A workload's own program in float64 on this CPU.

Large sums of products go through BLAS; everything else is compiled as the program has it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from schedules import _tvm
from schedules.cpu_default import cpu_schedule
from schedules.dtypes import numpy_dtype
from schedules.product_nests import ProductNest, product_nest
from schedules.workload import Workload

ALIGNMENT_BYTES = 64
FLOATS = ("float16", "bfloat16", "float32")
# Smaller products gain less than the program's parts cost to call one by one.
LEAST_PRODUCT_FLOPS = 1e8

Step = Callable[[Sequence[np.ndarray]], None]
"""Fills some of a program's buffers; called with all of them."""


@dataclass(frozen=True, slots=True)
class _Program:
    """A program in steps.

    Attributes:
        buffers: Arguments, then what lies between the steps.
        steps: In order.
    """

    buffers: Sequence[Any]
    steps: Sequence[Step]


def run_program(workload: Workload, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a workload by its program.

    Args:
        workload: What to compute.
        inputs: One array per input, in call order, in the workload's dtypes.
    """
    program = _in_steps(workload.program)
    arrays = [_aligned_zeros(buffer) for buffer in program.buffers]
    for array, data in zip(arrays, inputs, strict=False):
        array[...] = data
    for step in program.steps:
        step(arrays)
    return arrays[len(inputs) : len(inputs) + len(workload.outputs)]


def _aligned_zeros(buffer: Any) -> np.ndarray:
    """Memory on the boundary that compiled kernels rely on."""
    shape, dtype = [int(extent) for extent in buffer.shape], numpy_dtype(str(buffer.dtype))
    size_bytes = prod(shape) * dtype.itemsize
    storage = np.zeros(size_bytes + ALIGNMENT_BYTES, np.uint8)
    start = -storage.ctypes.data % ALIGNMENT_BYTES
    return storage[start : start + size_bytes].view(dtype).reshape(shape)


@lru_cache(maxsize=8)
def _in_steps(program: str) -> _Program:
    function = _tvm.load().ir.load_json(raise_floats(program))
    found = _split(function)
    if found is None:
        return _Program(list(function.params), [_compiled(function)])
    return found


def _split(function: Any) -> _Program | None:
    """The program in steps; ``None`` if no step is a large product."""
    tvm = _tvm.load()
    root = function.body.block
    if str(root.name_hint) != "root" or not isinstance(root.body, tvm.tirx.SeqStmt | tvm.tirx.For):
        return None
    nests = list(root.body) if isinstance(root.body, tvm.tirx.SeqStmt) else [root.body]
    products = [_large_product(nest) for nest in nests]
    if not any(products):
        return None
    buffers = [*function.params, *root.alloc_buffers]
    steps: list[Step] = []
    others: list[Any] = []
    for nest, found in zip(nests, products, strict=True):
        if found is None:
            others.append(nest)
            continue
        steps += _compiled_nests(others, buffers)
        others = []
        steps.append(_product_step(found, buffers))
    return _Program(buffers, [*steps, *_compiled_nests(others, buffers)])


def _large_product(nest: Any) -> ProductNest | None:
    found = product_nest(nest)
    return found if found and found.product.flops >= LEAST_PRODUCT_FLOPS else None


def _product_step(nest: ProductNest, buffers: Sequence[Any]) -> Step:
    left, right, out = (_place(one, buffers) for one in (nest.left, nest.right, nest.out))

    def step(arrays: Sequence[np.ndarray]) -> None:
        nest.product.compute(arrays[left], arrays[right], arrays[out])

    return step


def _place(buffer: Any, buffers: Iterable[Any]) -> int:
    return next(index for index, one in enumerate(buffers) if one.same_as(buffer))


def _compiled_nests(nests: Sequence[Any], buffers: Sequence[Any]) -> list[Step]:
    """Consecutive nests as a function of all buffers."""
    if not nests:
        return []
    tvm = _tvm.load()
    from tvm.s_tir import SBlock, SBlockRealize

    body = tvm.tirx.SeqStmt(list(nests)) if len(nests) > 1 else nests[0]
    root = SBlockRealize([], True, SBlock([], [], [], "root", body))
    function = tvm.tirx.PrimFunc(list(buffers), root).with_attr("s_tir", True)
    return [_compiled(function)]


def _compiled(function: Any) -> Step:
    tvm = _tvm.load()
    import tvm_ffi

    target = tvm.target.Target(
        {"kind": "llvm", "mcpu": _host_cpu(), "num-cores": os.cpu_count() or 1}
    )
    with target:
        library = tvm.compile(tvm.IRModule({"main": cpu_schedule(function)}), target=target)

    def step(arrays: Sequence[np.ndarray]) -> None:
        library["main"](*map(tvm_ffi.from_dlpack, arrays))

    return step


def _host_cpu() -> str:
    import tvm_ffi

    return str(tvm_ffi.get_global_func("target.llvm_get_system_cpu")())


def raise_floats(program: str) -> str:
    """A program in TVM's JSON form with every float type replaced by float64."""
    graph = json.loads(program)  # knows the infinities that TVM writes
    for node in graph["nodes"]:
        _raise_node(node)
    return json.dumps(graph)


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

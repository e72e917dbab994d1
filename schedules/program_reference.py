"""A workload's own program in float64 on this CPU.

Large sums of products go through BLAS; everything else is compiled as the program has it.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from math import prod
from typing import Any

import numpy as np

from schedules import _tvm
from schedules.cpu_default import cpu_schedule
from schedules.dtypes import FLOATS, numpy_dtype
from schedules.expected import Reference, affordable_rows, finite_limits, rows_of
from schedules.product_nests import ProductNest, product_nest
from schedules.row_programs import RowProgram, nests_of
from schedules.workload import Workload

ALIGNMENT_BYTES = 64
# Smaller products gain less than the program's parts cost to call one by one.
LEAST_PRODUCT_FLOPS = 1e8
# An element that is not in a product takes the time of this many operations of one.
_FLOPS_PER_STEP = 600

Step = Callable[[Sequence[np.ndarray]], None]
"""Fills some of a program's buffers; called with all of them."""


@dataclass(frozen=True, slots=True)
class _Program:
    """A program in steps.

    Attributes:
        buffers: Arguments, then what lies between the steps.
        steps: In order.
        compiled: Places among ``buffers`` of what compiled steps touch. Products take anything.
    """

    buffers: Sequence[Any]
    steps: Sequence[Step]
    compiled: frozenset[int]


def program_references(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """What a workload's program gives; some rows of it where all would be too many.

    Args:
        workload: What to compute.
        inputs: One array per input, in call order, in the workload's dtypes.
    """
    sampled = _sampled(workload)
    if sampled is None:
        return [Reference(values=values) for values in run_program(workload, inputs)]
    program, rows = sampled
    arrays = [_sparse_zeros(buffer) for buffer in program.buffers]
    n_rows = rows_of(workload.outputs[0])
    for place, (array, data) in enumerate(zip(arrays, inputs, strict=False)):
        if place in program.read_by_row:
            array.reshape(n_rows, -1)[rows] = data.reshape(n_rows, -1)[rows]
        else:
            array[...] = data
    function = program.cut(len(rows))
    places = _sparse_zeros(function.params[-1])
    places[...] = np.unravel_index(rows, workload.outputs[0].shape[:-1])
    _compiled(function)([*arrays, places])
    outputs = zip(arrays[len(inputs) :], workload.outputs, strict=False)
    return [
        Reference(
            values=array.reshape(n_rows, -1)[rows], rows=rows, limits=finite_limits(spec.dtype)
        )
        for array, spec in outputs
    ]


def _sampled(workload: Workload) -> tuple[RowProgram, np.ndarray] | None:
    """A program by rows and which of them to compute; ``None`` to compute the whole."""
    if affordable_rows(workload, flops_per_row=0.0) is None:
        return None
    function = _tvm.load().ir.load_json(raise_floats(workload.program))
    if any(map(_large_product, nests_of(function))):
        # Whole products are faster than their parts element by element.
        return None
    program = RowProgram.of(function, n_outputs=len(workload.outputs))
    if program is None:
        return None
    cost = float(program.n_steps_per_row * _FLOPS_PER_STEP)
    rows = affordable_rows(workload, flops_per_row=cost)
    return None if rows is None else (program, rows)


def run_program(workload: Workload, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a workload by its program.

    Args:
        workload: What to compute.
        inputs: One array per input, in call order, in the workload's dtypes.
    """
    program = _in_steps(workload.program)
    arrays = [
        inputs[place]
        if place < len(inputs) and place not in program.compiled
        else _aligned_zeros(buffer)
        for place, buffer in enumerate(program.buffers)
    ]
    for place in program.compiled & set(range(len(inputs))):
        arrays[place][...] = inputs[place]
    for step in program.steps:
        step(arrays)
    return arrays[len(inputs) : len(inputs) + len(workload.outputs)]


def _sparse_zeros(buffer: Any) -> np.ndarray:
    """Memory of which only the small pages that are touched exist, aligned to pages."""
    shape, dtype = [int(extent) for extent in buffer.shape], numpy_dtype(str(buffer.dtype))
    pages = mmap.mmap(-1, max(1, prod(shape) * dtype.itemsize))
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, dtype, prod(shape)).reshape(shape)


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
        buffers = list(function.params)
        steps = [_compiled(cpu_schedule(function))]
        return _Program(buffers, steps, frozenset(range(len(buffers))))
    return found


def _split(function: Any) -> _Program | None:
    """The program in steps; ``None`` if no step is a large product."""
    nests = nests_of(function)
    products = [_large_product(nest) for nest in nests]
    if not any(products):
        return None
    buffers = [*function.params, *function.body.block.alloc_buffers]
    steps: list[Step] = []
    compiled: set[int] = set()
    for is_product, group in groupby(zip(nests, products, strict=True), lambda one: bool(one[1])):
        if is_product:
            steps += [_product_step(found, buffers) for _, found in group if found]
            continue
        statements = [nest for nest, _ in group]
        places = _places_in(statements, buffers)
        compiled.update(places)
        steps.append(_compiled_nests(statements, [buffers[one] for one in places], places))
    return _Program(buffers, steps, frozenset(compiled))


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


def _places_in(nests: Sequence[Any], buffers: Sequence[Any]) -> list[int]:
    """Which buffers some nests name."""
    import tvm_ffi

    named: list[Any] = []
    for nest in nests:
        tvm_ffi.structural_walk(nest, (_tvm.load().ir.Var, named.append))
    return [
        place for place, buffer in enumerate(buffers) if any(buffer.same_as(one) for one in named)
    ]


def _compiled_nests(nests: Sequence[Any], buffers: Sequence[Any], places: Sequence[int]) -> Step:
    """Consecutive nests as a function of the buffers that they name, and these by their places."""
    tvm = _tvm.load()
    from tvm.s_tir import SBlock, SBlockRealize

    body = tvm.tirx.SeqStmt(list(nests)) if len(nests) > 1 else nests[0]
    root = SBlockRealize([], True, SBlock([], [], [], "root", body))
    function = tvm.tirx.PrimFunc(list(buffers), root).with_attr("s_tir", True)
    run = _compiled(cpu_schedule(function))
    return lambda arrays: run([arrays[place] for place in places])


def _compiled(function: Any) -> Step:
    tvm = _tvm.load()
    import tvm_ffi

    target = tvm.target.Target(
        {"kind": "llvm", "mcpu": _host_cpu(), "num-cores": os.cpu_count() or 1}
    )
    with target:
        library = tvm.compile(tvm.IRModule({"main": function}), target=target)

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

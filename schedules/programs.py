"""Between workloads (plain data) and TVM functions."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from schedules import _tvm
from schedules.workload import Attribute, TensorSpec, Workload


def workload_of(
    function: Any,
    *,
    name: str,
    n_outputs: int = 1,
    op: str = "generic",
    attrs: dict[str, Attribute] | None = None,
) -> Workload:
    """Describe a schedulable ``PrimFunc`` with static shapes as a workload.

    Args:
        function: The function; its last ``n_outputs`` buffers are written.
        name: For people.
        n_outputs: Number of destination buffers.
        op: Operator that own design spaces recognise.
        attrs: Operator attributes.
    """
    tvm = _tvm.load()
    function = with_distinct_names(normalised(function))
    specs = tuple(
        TensorSpec(
            name=str(buffer.name),
            shape=tuple(int(extent) for extent in buffer.shape),
            dtype=str(buffer.dtype),
        )
        for buffer in function.params
    )
    import tvm_ffi

    return Workload(
        op=str(op),
        name=str(name),
        inputs=specs[:-n_outputs],
        outputs=specs[-n_outputs:],
        attrs=attrs or {},
        program=str(tvm.ir.save_json(function)),
        program_hash=f"{tvm_ffi.structural_hash(function) & (2**64 - 1):016x}",
    )


def normalised(function: Any) -> Any:
    """The function under the symbol ``main``, without attributes that depend on its caller."""
    return function.with_attr("global_symbol", "main")


def with_distinct_names(function: Any) -> Any:
    """The function, its parameters renamed where two have one name: ``x * x`` reads ``x`` twice.

    Kernels whose text is ours name their arguments.
    """
    tvm = _tvm.load()
    names = [str(parameter.name) for parameter in function.params]
    if len(set(names)) == len(names):
        return function
    graph = json.loads(tvm.ir.save_json(function))
    nodes = graph["nodes"]
    parameters = nodes[nodes[graph["root_index"]]["data"]["params"]]["data"]
    for number, (node, name) in enumerate(zip(parameters, list(names), strict=True)):
        if name in names[:number]:
            names[number] = next(one for i in count(1) if (one := f"{name}_{i}") not in names)
            nodes.append({"type": "ffi.String", "data": names[number]})
            nodes[node]["data"]["name"] = len(nodes) - 1
    return tvm.ir.load_json(json.dumps(graph))


def private_copy(function: Any) -> Any:
    """A deep copy that shares no statement with the original.

    Scheduling may rewrite statements in place when it holds the only reference to the
    module around them, although other functions still share those statements.
    """
    tvm = _tvm.load()
    return tvm.ir.load_json(tvm.ir.save_json(function))


def function_of(workload: Workload) -> Any:
    """The ``PrimFunc`` that defines a workload; a fresh copy, safe to schedule."""
    return _tvm.load().ir.load_json(workload.program)


def module_of(workload: Workload) -> Any:
    """An ``IRModule`` with the workload's function as ``main``."""
    return _tvm.load().IRModule({"main": function_of(workload)})

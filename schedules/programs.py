"""Between workloads (plain data) and TVM functions."""

from __future__ import annotations

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
    function = normalised(function)
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

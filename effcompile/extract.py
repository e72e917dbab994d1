"""Distinct workloads of a lowered program, with their weight in the network."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from effcompile.frontend.kernels.marking import GENERIC, marks_of
from effcompile.lower import LoweredProgram
from schedules import _tvm
from schedules.analysis import has_open_shape, is_view, launches_threads
from schedules.programs import workload_of
from schedules.target import Target
from schedules.task import Task

# Below this many bytes, a kernel without arithmetic costs less than its launch.
SMALLEST_MOVE_BYTES = 64 * 1024
# Below this many, neither does one with arithmetic: index bookkeeping, mostly.
FEWEST_OPERATIONS = 512
# Networks of today fuse up to 25 stages. TVM's rules inline them one by one, and take a quarter of
# a minute for each candidate of a recurrent network's 67.
MOST_STAGES = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractedTask:
    """A task and where it comes from.

    Attributes:
        task: What to tune; its weight is ``n_calls``.
        functions: Symbols of the module's functions that compute this workload.
        n_calls: Calls of these functions in one run of every entry point.
    """

    task: Task
    functions: tuple[str, ...]
    n_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A function that keeps its default schedule.

    Attributes:
        function: Symbol in the module.
        n_calls: Calls in one run of every entry point.
        reason: Why there is nothing to tune.
    """

    function: str
    n_calls: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What a program consists of.

    Attributes:
        tasks: Tunable workloads, most called first.
        left_out: Functions that are not tuned, with the reason.
    """

    tasks: tuple[ExtractedTask, ...]
    left_out: tuple[LeftOut, ...]


def extract_tasks(lowered: LoweredProgram, target: Target) -> list[ExtractedTask]:
    """The tunable workloads of a program; see :func:`extract` for the rest."""
    return list(extract(lowered, target).tasks)


def extract(lowered: LoweredProgram, target: Target) -> Extraction:
    """Divide the functions of a program into tasks and functions with nothing to tune."""
    calls, n_outputs = _calls(lowered)
    found: dict[str, ExtractedTask] = {}
    left_out = []
    for symbol, n_calls in calls.items():
        function = lowered.module[symbol]
        reason = reason_not_to_tune(function)
        if reason:
            left_out.append(LeftOut(function=symbol, n_calls=n_calls, reason=reason))
            continue
        task = _task(function, symbol, n_outputs[symbol], target)
        before = found.get(task.task_id)
        found[task.task_id] = _joined(before, task, symbol, n_calls)
    tasks = sorted(found.values(), key=lambda each: (-each.n_calls, each.functions))
    return Extraction(tasks=tuple(tasks), left_out=tuple(left_out))


def _joined(before: ExtractedTask | None, task: Task, symbol: str, n_calls: int) -> ExtractedTask:
    functions = (*before.functions, symbol) if before else (symbol,)
    total = n_calls + (before.n_calls if before else 0)
    weighted = Task(workload=task.workload, target=task.target, weight=total)
    return ExtractedTask(task=weighted, functions=functions, n_calls=total)


def _task(function: Any, symbol: str, n_outputs: int, target: Target) -> Task:
    op, attrs = marks_of(function)
    workload = workload_of(function, name=symbol, n_outputs=n_outputs, op=op, attrs=attrs)
    return Task(workload=workload, target=target)


def _calls(lowered: LoweredProgram) -> tuple[Counter[str], dict[str, int]]:
    """Calls per function over all entry points, branches included, and outputs per function."""
    _tvm.load()
    from tvm import relax

    calls: Counter[str] = Counter()
    n_outputs: dict[str, int] = {}

    def visit(expression: Any) -> None:
        if not isinstance(expression, relax.Call):
            return
        if getattr(expression.op, "name", "") != "relax.call_tir":
            return
        symbol = str(expression.args[0].name_hint)
        out_type = expression.ty_args[0]
        calls[symbol] += 1
        n_outputs[symbol] = len(out_type.fields) if hasattr(out_type, "fields") else 1

    for entry in lowered.entries:
        relax.analysis.post_order_visit(lowered.module[entry.name], visit)
    return calls, n_outputs


def reason_not_to_tune(function: Any) -> str:
    """Why a function keeps its default schedule; empty if it should be tuned."""
    if has_open_shape(function):
        return "a dimension is open: its kernel serves every size"
    if is_view(function):
        return "a view of its input: no kernel runs"
    if _calls_external_code(function):
        return "calls library code"
    if launches_threads(function):
        return "launches its own threads"
    if (n_stages := _n_stages(function)) > MOST_STAGES:
        return f"computes in {n_stages} stages: every candidate would take minutes"
    return _reason_if_tiny(function)


def _reason_if_tiny(function: Any) -> str:
    if 0 in [int(extent) for extent in function.params[-1].shape]:
        return "writes no element"
    n_bytes = _argument_bytes(function)
    if n_bytes >= SMALLEST_MOVE_BYTES or marks_of(function)[0] != GENERIC:
        return ""
    flops = _flops(function)
    if flops == 0:
        return f"moves {n_bytes} bytes without arithmetic"
    if flops < FEWEST_OPERATIONS:
        return f"computes only {flops:.0f} operations"
    return ""


def _n_stages(function: Any) -> int:
    """Loop nests that a fused function computes one after another."""
    return len(function.body.block.alloc_buffers) + 1


def _calls_external_code(function: Any) -> bool:
    import tvm
    import tvm_ffi

    external = {"tirx.tvm_call_packed", "tirx.tvm_call_cpacked", "tirx.call_extern"}
    found = []

    def visit(call: Any) -> None:
        if getattr(call.op, "name", "") in external:
            found.append(call)

    tvm_ffi.structural_walk(function.body, (tvm.ir.Call, visit))
    return bool(found)


def _argument_bytes(function: Any) -> int:
    total = 0
    for parameter in function.params:
        n_elements = 1
        for extent in parameter.shape:
            n_elements *= int(extent)
        total += n_elements * _element_bits(str(parameter.dtype)) // 8
    return total


def _element_bits(dtype: str) -> int:
    import tvm

    return int(tvm.DataType(dtype).bits)


def _flops(function: Any) -> float:
    import tvm

    return float(tvm.s_tir.analysis.estimate_tir_flops(tvm.IRModule({"main": function})))

"""What a workload must give: a float64 reference, and how far from it is still right.

The reference is the workload's own program with every float raised to float64,
compiled for this CPU. Own operators with a closed form use NumPy.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from schedules import _tvm
from schedules.analysis import reductions_of
from schedules.cpu_default import cpu_schedule
from schedules.inputs import is_integer
from schedules.programs import function_of
from schedules.workload import Workload

FLOATS = ("float16", "bfloat16", "float32")
FAST_MATH_ROUNDOFFS = 64.0
UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """An element is right if ``|actual - reference| <= atol * scale + rtol * |reference|``.

    Attributes:
        rtol: Share of the element itself.
        atol: Share of ``scale``, the root mean square of the finite reference.
    """

    rtol: float
    atol: float


def compute_reference(workload: Workload, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a workload in float64 (integers and bools as they are).

    Args:
        workload: What to compute.
        inputs: One array per input, in call order, in the workload's dtypes.
    """
    if workload.op == "softmax":
        return [softmax_reference(workload, inputs[0])]
    tvm = _tvm.load()
    arrays = [_raised(array) for array in inputs]
    arrays += [
        np.zeros(spec.shape, dtype=spec.dtype if not _is_float(spec.dtype) else "float64")
        for spec in workload.outputs
    ]
    tensors = [tvm.runtime.tensor(np.require(array, requirements="C")) for array in arrays]
    _compiled(workload.program)["main"](*tensors)
    return [tensor.numpy() for tensor in tensors[len(inputs) :]]


def softmax_reference(workload: Workload, x: np.ndarray) -> np.ndarray:
    """Softmax, or its logarithm, over the last axis in float64."""
    scaled = x.astype(np.float64) * float(workload.attrs.get("scale", 1.0))
    shifted = scaled - scaled.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=-1, keepdims=True)
    if workload.attrs.get("log", False):
        return np.asarray(shifted - np.log(total))
    return np.asarray(exponentials / total)


def _is_float(dtype: str) -> bool:
    return not is_integer(dtype) and dtype != "bool"


def _raised(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if _is_float(array.dtype.name) else array


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


def tolerance_of(workload: Workload) -> Tolerance:
    """How far a right kernel may be from the reference.

    Storing costs ``u_store`` of the element, the unit roundoff of the coarsest float
    among the arguments. A sum of ``n`` terms kept in a float of roundoff ``u_sum`` errs
    like a random walk: ``u_sum * sqrt(n)`` of the typical result. Factors of 16 and 8
    cover chained steps and the worst of many elements; 64 roundoffs of float32 cover the
    GPU's fast exponential (2 + 1.16 |x| units in the last place) and division. More than
    a tenth of the typical magnitude is never accepted.
    Programs without floats must agree exactly.
    """
    floats = [spec.dtype for spec in (*workload.inputs, *workload.outputs) if _is_float(spec.dtype)]
    if not floats:
        return Tolerance(rtol=0.0, atol=0.0)
    stored = max(_roundoff(dtype) for dtype in floats)
    summed = sum(
        _roundoff(reduction.dtype) * np.sqrt(reduction.n_terms)
        for reduction in reductions_of(function_of(workload))
        if _is_float(reduction.dtype)
    )
    rtol = max(16.0 * stored, FAST_MATH_ROUNDOFFS * UNIT_ROUNDOFF["float32"])
    return Tolerance(rtol=rtol, atol=min(16.0 * stored + 8.0 * float(summed), 0.1))


def _roundoff(dtype: str) -> float:
    return UNIT_ROUNDOFF.get(dtype, 2.0**-4)


def compare(
    actual: np.ndarray,
    reference: np.ndarray,
    tolerance: Tolerance,
    *,
    scale: float | None = None,
    suspects: np.ndarray | None = None,
) -> str | None:
    """``None`` if every element is right, else one sentence about the worst.

    Args:
        actual: Output of a kernel.
        reference: The same output in float64; may hold infinities and NaN, which the
            kernel must then give at the same places.
        tolerance: What is still right.
        scale: :func:`scale_of` the reference, if known.
        suspects: Flat indices of the elements that may be wrong; all if ``None``.
    """
    if actual.shape != reference.shape:
        return f"shape is {actual.shape}, expected {reference.shape}"
    if scale is None:
        scale = scale_of(reference)
    if suspects is None:
        suspects = np.arange(actual.size)
    got = actual.reshape(-1)[suspects].astype(np.float64)
    wanted = reference.reshape(-1)[suspects].astype(np.float64)
    n_nan = int(np.count_nonzero(np.isnan(got) & ~np.isnan(wanted)))
    excess = _excess(got, wanted, tolerance, scale)
    n_wrong = int(np.count_nonzero(excess > 0))
    if n_wrong == 0:
        return None
    worst = int(np.argmax(excess))
    index = tuple(int(i) for i in np.unravel_index(int(suspects[worst]), actual.shape))
    return (
        f"{n_wrong} of {actual.size} elements are wrong, {n_nan} of them NaN; worst at {index}: "
        f"{got[worst]:.6g}, expected {wanted[worst]:.6g} "
        f"(rtol {tolerance.rtol:.2g}, atol {tolerance.atol:.2g} of the mean magnitude)"
    )


def scale_of(reference: np.ndarray) -> float:
    """Root mean square of the finite elements, 0 if there are none."""
    values = reference.astype(np.float64, copy=False).reshape(-1)
    finite = values if np.isfinite(values).all() else values[np.isfinite(values)]
    return float(np.sqrt(np.dot(finite, finite) / finite.size)) if finite.size else 0.0


def allowed_error(reference: np.ndarray, tolerance: Tolerance, scale: float) -> np.ndarray:
    """How far each element may be from its reference; meaningless where that is not finite."""
    finite = np.isfinite(reference)
    return np.asarray(
        tolerance.atol * scale + tolerance.rtol * np.abs(np.where(finite, reference, 0.0))
    )


def _excess(got: np.ndarray, wanted: np.ndarray, tolerance: Tolerance, scale: float) -> np.ndarray:
    """By how much each error exceeds what is allowed; positive means wrong."""
    finite = np.isfinite(wanted)
    allowed = allowed_error(wanted, tolerance, scale)
    error = np.abs(np.where(finite, got - np.where(finite, wanted, 0.0), 0.0))
    excess = np.where(np.isnan(error), np.inf, error - allowed)
    same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    return np.where(finite, excess, np.where(same, 0.0, np.inf))

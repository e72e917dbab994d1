"""A kernel whose answer is known: what the device process must get right before any trial.

y[i] = 2 * x[i] + 1
"""

from __future__ import annotations

from typing import Any

import numpy as np

from schedules import _tvm
from schedules.target import Target
from schedules.workload import TensorSpec, Workload

N_ELEMENTS = 4096
_THREADS = 128


def known_workload() -> Workload:
    """The known kernel as a workload; it has no program that a space could transform."""
    spec = TensorSpec(name="x", shape=(N_ELEMENTS,), dtype="float32")
    return Workload(
        op="known",
        name="known_kernel",
        inputs=(spec,),
        outputs=(TensorSpec(name="y", shape=spec.shape, dtype=spec.dtype),),
        program="",
        program_hash="0",
    )


def known_input() -> np.ndarray:
    """What it is called with; every product and sum is exact in float32."""
    return np.arange(N_ELEMENTS, dtype=np.float32)


def known_answer() -> np.ndarray:
    """What it must give, to the last bit."""
    return 2 * known_input() + 1


def known_program(target: Target) -> Any:
    """The scheduled program for a target."""
    tvm = _tvm.load()
    from tvm import te
    from tvm.s_tir import Schedule

    x = te.placeholder((N_ELEMENTS,), name="x", dtype="float32")
    y = te.compute((N_ELEMENTS,), lambda i: x[i] * 2.0 + 1.0, name="y")
    schedule = Schedule(tvm.IRModule({"main": te.create_prim_func([x, y])}))
    if target.kind == "cuda":
        (loop,) = schedule.get_loops(schedule.get_sblock("y"))
        block, thread = schedule.split(loop, [None, _THREADS])
        schedule.bind(block, "blockIdx.x")
        schedule.bind(thread, "threadIdx.x")
    return schedule.mod

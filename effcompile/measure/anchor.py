"""A fixed load whose energy says whether the device has changed since the run began.

Measured again now and then between candidates, always in the same way. Temperature,
leakage and somebody else's power limit move it as they move everything else.

The kernel is a chain of multiply-adds over data that stays in the last-level cache: far
from idle, and below the power limit of the devices we know.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from schedules import _tvm
from schedules.target import Target
from schedules.workload import TensorSpec, Workload

N_ELEMENTS = {"cuda": 1 << 22, "llvm": 1 << 16}
N_STEPS = {"cuda": 256, "llvm": 16}
_THREADS = 256


def anchor_workload(target: Target) -> Workload:
    """The anchor as a workload; it has no program that a space could transform."""
    spec = TensorSpec(name="x", shape=(N_ELEMENTS[target.kind],), dtype="float32")
    return Workload(
        op="anchor",
        name="anchor",
        inputs=(spec,),
        outputs=(TensorSpec(name="y", shape=spec.shape, dtype=spec.dtype),),
        program="",
        program_hash="0",
    )


def anchor_input(target: Target) -> np.ndarray:
    """The same numbers in every run: power depends on bit patterns."""
    generator = np.random.default_rng(0)
    return generator.standard_normal(N_ELEMENTS[target.kind], dtype=np.float32)


def anchor_program(target: Target) -> Any:
    """The scheduled program for a target: ``y = x`` after steps of ``y * 0.999 + x``."""
    tvm = _tvm.load()
    from tvm import te
    from tvm.s_tir import Schedule

    n_steps = N_STEPS[target.kind]
    x = te.placeholder((N_ELEMENTS[target.kind],), name="x", dtype="float32")

    def chain(i: Any) -> Any:
        value = x[i]
        for _ in range(n_steps):
            value = value * tvm.tirx.const(0.999, "float32") + x[i]
        return value

    y = te.compute(x.shape, chain, name="y")
    schedule = Schedule(tvm.IRModule({"main": te.create_prim_func([x, y])}))
    (loop,) = schedule.get_loops(schedule.get_sblock("y"))
    if target.kind == "cuda":
        block, thread = schedule.split(loop, [None, _THREADS])
        schedule.bind(block, "blockIdx.x")
        schedule.bind(thread, "threadIdx.x")
    else:
        part, _, lanes = schedule.split(loop, [target.n_cores, None, 8])
        schedule.parallel(part)
        schedule.vectorize(lanes)
    return schedule.mod

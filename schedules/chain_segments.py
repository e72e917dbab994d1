"""Chains of linked rows as segments: one block that counts, adds up and lists them."""

from __future__ import annotations

from typing import Any

import numpy as np

from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code
from schedules.errors import UnknownSpace
from schedules.knobs import Knob, KnobSpace, Values
from schedules.limits import launch_refusal
from schedules.task import Task

OP = "chain_segments"
REGISTERS = 32
SHARED_BYTES_PER_WARP = 8


def chain_segments_space(task: Task) -> KnobSpace | None:
    """The operator's space, ``None`` for other operators and targets."""
    if task.workload.op != OP or task.target.kind != "cuda":
        return None
    return ChainSegmentsSpace(task)


class ChainSegmentsSpace(KnobSpace):
    """How many threads share the rows."""

    name = OP
    knobs = (Knob(name="threads", values=(32, 64, 128, 256, 512, 1024)),)

    def __init__(self, task: Task) -> None:
        if task.workload.op != OP:
            raise UnknownSpace(f"{task.workload.name} is no {OP}: expected that operator.")
        self._workload = task.workload
        self._target = task.target
        (self._rows,) = task.workload.inputs[0].shape

    def refusal(self, values: Values) -> str | None:
        """Limits of the device."""
        threads = int(values["threads"])
        return launch_refusal(
            self._target,
            threads_per_block=threads,
            registers_per_thread=REGISTERS,
            shared_bytes=SHARED_BYTES_PER_WARP * threads // 32,
        )

    def program(self, values: Values) -> Any:
        """The bound program."""
        workload, threads = self._workload, int(values["threads"])
        constants = {
            "ROWS": self._rows,
            "PLACES": int(workload.attrs["places"]),
            "GROUPS": workload.outputs[2].shape[0],
            "THREADS": threads,
        }
        launch = CudaLaunch(
            function=OP,
            source="\n".join(
                [
                    *(f"constexpr int {name} = {value};" for name, value in constants.items()),
                    device_code("chain_segments.cuh"),
                ]
            ),
            arguments=tuple(spec.name for spec in (*workload.inputs, *workload.outputs)),
            grid=(1,),
            block=(threads,),
        )
        return cuda_program(workload, [launch])

    def numbers(self, values: Values) -> list[float]:
        """log2 of threads and of rows per thread."""
        threads = int(values["threads"])
        return [float(np.log2(threads)), float(np.log2(-(-self._rows // threads)))]

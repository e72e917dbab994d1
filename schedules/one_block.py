"""Operators over lists of rows that one block computes: how many threads it has."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from schedules.covering import required
from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code
from schedules.knobs import Knob, KnobSpace, Values
from schedules.limits import launch_refusal
from schedules.row_space import constants
from schedules.task import Task
from schedules.workload import TensorSpec

REGISTERS = 40
WARP = 32
BYTES_PER_WARP = 8


class OneBlockSpace(KnobSpace):
    """How many threads share the rows.

    ``cuda/<name>.cuh`` defines a function of the operator's name, after ``cuda/counting.cuh``.
    """

    knobs = (Knob(name="threads", values=(32, 64, 128, 256, 512, 1024)),)

    def __init__(self, task: Task) -> None:
        workload = task.workload if task.workload.op == self.name else None
        self._workload = required(workload, task, family=self.name, expected="its operator")
        self._target = task.target
        (self._rows,) = task.workload.inputs[0].shape

    @property
    def shared_bytes(self) -> int:
        """Shared memory of the block beside that of its warps."""
        return 0

    @property
    def workspaces(self) -> tuple[TensorSpec, ...]:
        """Memory that the launch needs beside inputs and outputs."""
        return ()

    @abstractmethod
    def constants(self) -> dict[str, int]:
        """What is fixed for the program, by name."""

    @abstractmethod
    def arguments(self) -> list[str]:
        """Buffers, or ``nullptr``, in the order of the function's parameters."""

    def refusal(self, values: Values) -> str | None:
        """Limits of the device."""
        threads = int(values["threads"])
        return launch_refusal(
            self._target,
            threads_per_block=threads,
            registers_per_thread=REGISTERS,
            shared_bytes=self.shared_bytes + BYTES_PER_WARP * threads // WARP,
        )

    def program(self, values: Values) -> Any:
        """The bound program."""
        return cuda_program(self._workload, [self.launch(values)], workspaces=self.workspaces)

    def launch(self, values: Values) -> CudaLaunch:
        """The one launch of a point."""
        threads = int(values["threads"])
        names, call = self._call()
        return CudaLaunch(
            function=f"{self.name}_block",
            source="\n".join(
                [
                    *constants({"ROWS": self._rows, "THREADS": threads, **self.constants()}),
                    device_code("counting.cuh"),
                    device_code(f"{self.name}.cuh"),
                    call,
                ]
            ),
            arguments=tuple(names),
            grid=(1,),
            block=(threads,),
        )

    def _call(self) -> tuple[list[str], str]:
        """Buffers of the launch, and the function that takes them."""
        wanted = self.arguments()
        names = [name for name in wanted if name != "nullptr"]
        kinds = {one.name: one.dtype.replace("32", "") for one in self._specs()}
        inputs = {one.name for one in self._workload.inputs}
        parameters = ", ".join(
            f"{'const ' if name in inputs else ''}{kinds[name]}* a{i}"
            for i, name in enumerate(names)
        )
        passed = [f"a{names.index(one)}" if one in names else one for one in wanted]
        text = f"__device__ __forceinline__ void {self.name}_block({parameters}) {{"
        return names, f"{text}\n  {self.name}({', '.join(passed)});\n}}"

    def _specs(self) -> tuple[TensorSpec, ...]:
        return (*self._workload.inputs, *self._workload.outputs, *self.workspaces)

    def numbers(self, values: Values) -> list[float]:
        """log2 of threads and of rows per thread."""
        threads = int(values["threads"])
        return [float(np.log2(threads)), float(np.log2(-(-self._rows // threads)))]

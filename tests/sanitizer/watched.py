"""The process that a tool watches: runs the candidates of one plan, one after the other.

    compute-sanitizer --tool memcheck python -m tests.sanitizer.watched PLAN FIRST

Every argument and every workspace is an allocation of its own and of exactly its size, so that the
tool sees an access one byte behind it.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

from effcompile.errors import DeviceFault
from effcompile.measure.arguments import Arguments, place
from effcompile.measure.correctness import Checker
from effcompile.measure.cuda_device import CudaDevice, CudaMemory
from effcompile.measure.prepared import read_prepared
from effcompile.measure.session import load_runtime
from schedules import _tvm
from tests.sanitizer.marks import marked
from tests.sanitizer.plans import Plan, PlannedRun, read_plan

_Allocate = ctypes.CFUNCTYPE(
    ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_uint64, ctypes.c_int, ctypes.c_int
)
_Free = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)


class ExactWorkspace:
    """Stands in for TVM's pool, which rounds sizes up and gives out what it got back.

    Args:
        device: Where memory is taken.
    """

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._taken: list[CudaMemory] = []
        self._allocate = _Allocate(self._take)
        self._free = _Free(lambda *_: 0)  # kernels may still run: freed by ``forget``

    def _take(self, _type: int, _index: int, size_bytes: int, _code: int, _bits: int) -> int:
        self._taken.append(self._device.allocate(size_bytes))
        return self._taken[-1].address

    def serve(self, library_path: str) -> None:
        """Give a loaded library its workspaces from now on."""
        library = ctypes.CDLL(library_path)
        for name, function in (("Alloc", self._allocate), ("Free", self._free)):
            try:
                pointer = ctypes.c_void_p.in_dll(library, f"__TVMBackend{name}Workspace")
            except ValueError:
                continue  # a library without workspaces
            pointer.value = ctypes.cast(function, ctypes.c_void_p).value

    def forget(self) -> None:
        """Free everything; nothing runs any more."""
        self._taken.clear()


def run_candidate(device: CudaDevice, workspace: ExactWorkspace, run: PlannedRun) -> str:
    """Launch once and compare; empty if right."""
    import tvm

    prepared = read_prepared(run.workload, folder=Path(run.data))
    arguments: Arguments = place(device, run.workload, prepared.inputs, guard_bytes=0)
    function = tvm.runtime.load_module(run.library)["main"]
    workspace.serve(run.library)
    tensors: list[Any] = arguments.tensors

    def launch() -> None:
        function(*tensors)
        device.synchronise()
        workspace.forget()

    return Checker(prepared).check(launch, arguments)


def run_plan(plan: Plan, first: int) -> None:
    """Run the candidates from ``first`` on; stops when the context is lost."""
    load_runtime("cuda")
    device = CudaDevice()
    device.take_over_stream()
    workspace = ExactWorkspace(device)
    for index, run in enumerate(plan.runs[first:], start=first):
        with marked(index) as outcome:
            outcome.wrong = run_candidate(device, workspace, run)
        if not device_works(device):
            return


def device_works(device: CudaDevice) -> bool:
    """Whether the context survived."""
    try:
        device.synchronise()
        device.allocate(4)
    except DeviceFault:
        return False
    return True


if __name__ == "__main__":
    _tvm.hide_torch()
    run_plan(read_plan(Path(sys.argv[1])), int(sys.argv[2]))

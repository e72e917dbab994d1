"""Runs programs whose threads need nothing of each other on the CPU, every access checked."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from schedules.cuda_kernel import CudaLaunch, device_code
from schedules.dtypes import numpy_dtype
from schedules.inputs import make_inputs
from schedules.reference import compare, compute_reference, tolerance_of
from schedules.workload import Workload
from tests.schedules.host_library import host_library

SHIM = Path(__file__).with_suffix(".hpp")
# The loads in assembly, which the shim replaces.
ASSEMBLY = re.compile(r"#define EFFCOMPILE_LOAD\(.*#undef EFFCOMPILE_LOAD\n", re.DOTALL)
C_TYPES = {
    "float32": "float", "float16": "half", "bfloat16": "nv_bfloat16", "int32": "int",
    "int64": "long",
}  # fmt: skip


class Emulation:
    """Programs in one library.

    Args:
        programs: Name to workload and different launches that all compute it.
        folder: For source and library.
    """

    def __init__(
        self, programs: Mapping[str, tuple[Workload, Sequence[CudaLaunch]]], folder: Path
    ) -> None:
        self._workloads = {name: workload for name, (workload, _) in programs.items()}
        self._numbers: dict[str, list[int]] = {name: [] for name in programs}
        rows = ASSEMBLY.sub("using ::load_if;\n", device_code("rows.cuh"))
        texts = [SHIM.read_text(), re.sub(r"#include <cuda.*>", "", rows)]
        for name, (workload, launches) in programs.items():
            for launch in launches:
                number = len(texts) - 2
                self._numbers[name].append(number)
                texts.append(_text(number, workload, launch))
        text = "\n".join(texts).replace("*place = raw", "__stcs(place, raw)")
        self._library = host_library(text, folder, "-O1")

    def assert_right(self, name: str) -> None:
        """Every launch computes what the workload's program says, and stays inside its arrays."""
        workload = self._workloads[name]
        inputs = make_inputs(workload, seed=1)
        (expected,) = compute_reference(workload, inputs)
        (result,) = workload.outputs
        for number in self._numbers[name]:
            found = np.full(result.shape, np.nan, numpy_dtype(result.dtype))
            assert self._fault(number, [*inputs, found]) == 0
            assert compare(found, expected, tolerance_of(workload)) is None

    def _fault(self, number: int, arrays: list[np.ndarray]) -> int:
        """Fill the last array from the others; answers 0, or the number of a fault."""
        pointers = (ctypes.c_void_p * len(arrays))(*(one.ctypes.data for one in arrays))
        sizes = (ctypes.c_longlong * len(arrays))(*(one.nbytes for one in arrays))
        return int(getattr(self._library, f"run_{number}")(pointers, sizes, len(arrays)))


def _text(number: int, workload: Workload, launch: CudaLaunch) -> str:
    (grid,), (width, height, *_) = launch.grid, (*launch.block, 1)
    specs = (*workload.inputs, *workload.outputs)
    arguments = [f"({C_TYPES[one.dtype]}*)pointers[{i}]" for i, one in enumerate(specs)]
    return (
        f"namespace launch_{number} {{\n{launch.source}\n}}\n"
        f'extern "C" int run_{number}(void** pointers, const long long* sizes, int n) {{\n'
        f"  return launch({grid}, {{{width}, {height}}}, pointers, sizes, n, [&] {{\n"
        f"    launch_{number}::{launch.function}({', '.join(arguments)});\n  }});\n}}\n"
    )

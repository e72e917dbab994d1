"""Runs programs of ``schedules/cuda`` on the CPU: one thread per CUDA thread.

What :file:`ampere.cuh` wraps is replaced by its definition; everything else is compiled as it
stands, so that index arithmetic, splits, clusters and reductions are seen without a GPU.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from schedules.cuda_kernel import CudaLaunch, device_code

SHIM = Path(__file__).with_suffix(".hpp")
REPLACED = "ampere.cuh"
INCLUDES = ("#include <cuda_fp16.h>", "#include <cuda_bf16.h>")


def emulate(launches: Sequence[CudaLaunch], arrays: dict[str, np.ndarray], folder: Path) -> int:
    """Run launches in order on named arrays; answers 0, or the number of a fault."""
    texts = [SHIM.read_text()]
    calls = []
    for number, launch in enumerate(launches):
        headers = [one for one in launch.headers if one != device_code(REPLACED)]
        texts += [one for one in headers if one not in texts]
        texts.append(f"namespace launch_{number} {{\n{launch.source}\n}}")
        calls.append(_call_text(number, launch))
    text = "\n".join([*texts, *calls])
    for include in INCLUDES:
        text = text.replace(include, "")
    source, library = folder / "kernel.cpp", folder / "kernel.so"
    source.write_text(text)
    # Constants of one program must not be taken for those of another of the same name.
    flags = ["-fno-gnu-unique", "-std=c++20", "-w", "-shared", "-fPIC", "-pthread"]
    subprocess.run(["g++", *flags, "-o", str(library), str(source)], check=True)
    loaded = ctypes.CDLL(str(library))
    faults = [
        getattr(loaded, f"run_{number}")(
            (ctypes.c_void_p * len(launch.arguments))(
                *(arrays[str(name)].ctypes.data for name in launch.arguments)
            )
        )
        for number, launch in enumerate(launches)
    ]
    return max(faults)


def _call_text(number: int, launch: CudaLaunch) -> str:
    (grid,), (block,) = launch.grid, launch.block
    arena = ", arena" if launch.shared_bytes else ""
    arguments = ", ".join(f"Any{{pointers[{i}]}}" for i in range(len(launch.arguments)))
    return (
        f"#ifndef ANY\n#define ANY\n"
        "struct Any { void* p; template <class T> operator T*() const { return (T*)p; } };\n"
        "#endif\n"
        f'extern "C" int run_{number}(void** pointers) {{\n'
        f"  launch({grid}, {block}, {launch.shared_bytes}, {launch.cluster}, "
        f"[=](unsigned char* arena) {{\n"
        f"    launch_{number}::{launch.function}({arguments}{arena});\n  }});\n"
        f"  return fault;\n}}\n"
    )

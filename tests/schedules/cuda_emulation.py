"""Runs programs of ``schedules/cuda`` on the CPU: one thread per CUDA thread.

What :file:`ampere.cuh` and :file:`hopper.cuh` wrap is replaced by its definition; everything else
is compiled as it stands, so that index arithmetic, splits, clusters and reductions are seen without
a GPU.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from schedules.cuda_kernel import CudaLaunch, TensorMap, device_code
from schedules.dtypes import numpy_dtype
from schedules.workload import TensorSpec, Workload
from tests.schedules.host_library import host_library

SHIM = Path(__file__).with_suffix(".hpp")
HOPPER_SHIM = SHIM.with_name("hopper_emulation.hpp")
REPLACED = ("ampere.cuh", "hopper.cuh")
INCLUDES = ("#include <cuda_fp16.h>", "#include <cuda_bf16.h>")


def emulate(
    launches: Sequence[CudaLaunch], arrays: dict[str, np.ndarray], folder: Path, *options: str
) -> int:
    """Run launches in order on named arrays; answers 0, or the number of a fault.

    ``options`` are those of :func:`host_library`.
    """
    texts = [SHIM.read_text()]
    if any(device_code("hopper.cuh") in launch.headers for launch in launches):
        texts.append(HOPPER_SHIM.read_text())
    calls = []
    replaced = tuple(map(device_code, REPLACED))
    for number, launch in enumerate(launches):
        own = [_without_asm(one) for one in launch.headers if one not in replaced]
        texts += [one for one in own if one not in texts]
        source = _without_asm(_without_wgmma(launch.source))
        texts.append(f"namespace launch_{number} {{\n{source}\n}}")
        calls.append(_call_text(number, launch))
    text = "\n".join([*texts, *calls])
    for include in INCLUDES:
        text = text.replace(include, "")
    loaded = host_library(text, folder, *options)
    faults = [
        getattr(loaded, f"run_{number}")(
            (ctypes.c_void_p * len(launch.arguments))(
                *(arrays[_buffer(one)].ctypes.data for one in launch.arguments)
            )
        )
        for number, launch in enumerate(launches)
    ]
    return max(faults)


def computed(
    launches: Sequence[CudaLaunch],
    workload: Workload,
    inputs: Sequence[np.ndarray],
    folder: Path,
    workspaces: Sequence[TensorSpec] = (),
) -> np.ndarray:
    """The one output of launches in float64; every place is NaN before them.

    Args:
        launches: In order.
        workload: Whose tensors they name.
        inputs: In the order of the workload.
        folder: For source and library.
        workspaces: What else they name.
    """
    arrays = {spec.name: one for spec, one in zip(workload.inputs, inputs, strict=True)}
    for spec in (*workload.outputs, *workspaces):
        arrays[spec.name] = np.full(spec.shape, np.nan, numpy_dtype(spec.dtype))
    assert emulate(launches, arrays, folder) == 0
    (out,) = workload.outputs
    return arrays[out.name].astype(float)


def normal_inputs(workload: Workload) -> list[np.ndarray]:
    """Standard normal inputs, always the same."""
    rng = np.random.default_rng(0)
    return [
        rng.standard_normal(spec.shape).astype(numpy_dtype(spec.dtype)) for spec in workload.inputs
    ]


def _call_text(number: int, launch: CudaLaunch) -> str:
    (grid,), (block,) = launch.grid, launch.block
    at_end = "  hopper::at_end();\n" if device_code("hopper.cuh") in launch.headers else ""
    arena = ", arena" if launch.shared_bytes else ""
    arguments = ", ".join(_argument(i, one) for i, one in enumerate(launch.arguments))
    return (
        f"#ifndef ANY\n#define ANY\n"
        "struct Any { void* p; template <class T> operator T*() const { return (T*)p; } };\n"
        "#endif\n"
        f'extern "C" int run_{number}(void** pointers) {{\n'
        f"  launch({grid}, {block}, {launch.shared_bytes}, {launch.cluster}, "
        f"[=](unsigned char* arena) {{\n"
        f"    launch_{number}::{launch.function}({arguments}{arena});\n  }});\n"
        f"{at_end}  return fault;\n}}\n"
    )


def _buffer(argument: str | TensorMap) -> str:
    return argument if isinstance(argument, str) else argument.buffer


def _argument(number: int, argument: str | TensorMap) -> str:
    if isinstance(argument, str):
        return f"Any{{pointers[{number}]}}"
    rank = len(argument.shape)
    parts = (
        argument.shape,
        (2, *argument.strides_bytes),
        argument.box,
        argument.steps or [1] * rank,
    )
    numbers = ", ".join(f"{{{', '.join(map(str, part))}}}" for part in parts)
    data = f"(const unsigned char*)pointers[{number}]"
    return f"CUtensorMap{{{data}, {rank}, {numbers}, {argument.swizzle_bytes}}}"


def _without_wgmma(source: str) -> str:
    """The generated product of a warpgroup (``schedules/wgmma.py``) replaced by its definition."""
    found = re.search(r"\.f32\.(\w+)\.", source)
    element = "nv_bfloat16" if found and found[1] == "bf16" else "half"

    def definition(text: re.Match[str]) -> str:
        name = "multiply_rows" if ", p, 1, 1, 1;" in text[0] else "multiply"
        return f"hopper::{name}<{element}>(d, a, b, keep);\n}}"

    return re.sub(
        r"asm volatile\(\s*\"\{ \.reg \.pred p;.*?\);\n\}", definition, source, flags=re.DOTALL
    )


def _without_asm(source: str) -> str:
    """Powers of two, pairs of 16-bit floats, stored pieces: where kernels have own instructions."""
    source = source.replace(
        'asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));', "y = exp2f(x);"
    )
    source = re.sub(
        r'asm volatile\("st\.global\.v\d.*?"memory"\);', "*to = x;", source, flags=re.DOTALL
    )

    def definition(text: re.Match[str]) -> str:
        element = "nv_bfloat16" if text["kind"] == "bf16x2" else "half"
        return (
            f"{text['pair']} = ampere::packed({text['low']}, {text['high']}, (const {element}*)0);"
        )

    return re.sub(
        r'asm\("cvt\.rn\.(?P<kind>b?f16x2)\.f32 %0, %1, %2;"\s*:\s*"=r"\((?P<pair>.*?)\)\s*:'
        r'\s*"f"\((?P<high>.*?)\),\s*"f"\((?P<low>.*?)\)\);',
        definition,
        source,
    )

"""The kernels of a screen on this computer: compiled as C++, few blocks of few threads in turn.

Their threads share the work whatever their number and do not wait for each other, so nothing is
lost but time.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effcompile.measure.memory import HostDevice, HostMemory
from effcompile.measure.screen_source import SOURCE

N_BLOCKS, N_THREADS = 2, 3
CONVERSION = 'asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));'
PRELUDE = """
#include <cstring>
#define __device__
#define __global__
struct Place { unsigned int x; };
static Place blockIdx, threadIdx, blockDim, gridDim;
struct uint4 { unsigned int x, y, z, w; };
static float __uint_as_float(unsigned int bits) { float f; std::memcpy(&f, &bits, 4); return f; }
static float half_as_float(unsigned short bits) { _Float16 h; std::memcpy(&h, &bits, 2); return h; }
static void atomicAdd(unsigned long long* count, unsigned long long n) { *count += n; }
extern "C" void stand_at(unsigned block, unsigned thread, unsigned blocks, unsigned threads) {
    blockIdx.x = block; threadIdx.x = thread; gridDim.x = blocks; blockDim.x = threads;
}
"""


class EmulatedMemory(HostMemory):
    """See ``CudaMemory``."""

    def copy_from(self, address: int, size_bytes: int) -> None:
        ctypes.memmove(self.address, address, size_bytes)


class EmulatedDevice(HostDevice):
    """See ``CudaDevice``."""

    def allocate(self, size_bytes: int) -> EmulatedMemory:
        return EmulatedMemory(size_bytes)

    def free_bytes(self) -> int:
        return 8 << 30


class EmulatedFunctions:
    """See ``CudaFunctions``."""

    def __init__(self, folder: Path) -> None:
        assert CONVERSION in SOURCE
        source, library = folder / "screen.cpp", folder / "screen.so"
        source.write_text(PRELUDE + SOURCE.replace(CONVERSION, "value = half_as_float(bits);"))
        # Without the standard headers of `host_library`, this takes no time.
        command = ["g++", "-std=c++20", "-O1", "-w", "-shared", "-fPIC", "-o", str(library)]
        subprocess.run([*command, str(source)], check=True)
        self._library = ctypes.CDLL(str(library))

    def launch(self, name: str, arguments: Sequence[Any], *, n_blocks: int, n_threads: int) -> None:
        del n_blocks, n_threads
        for block in range(N_BLOCKS):
            for thread in range(N_THREADS):
                self._library.stand_at(block, thread, N_BLOCKS, N_THREADS)
                getattr(self._library, name)(*arguments)

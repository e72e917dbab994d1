"""Kernels with one fault each: a tool that does not report its own sees nothing here.

compute-sanitizer --tool memcheck python -m tests.sanitizer.faulty CUBIN memcheck
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from effcompile.measure.cuda_device import CudaDevice
from tests.sanitizer.marks import marked

N_THREADS = 128
SOURCE = """
extern "C" __global__ void memcheck(int* x) {  // the last thread reads behind the end
  if (x[threadIdx.x + 1] == 12345) x[0] = 1;
}
extern "C" __global__ void racecheck(int* x) {  // nobody waits for the neighbour
  __shared__ int row[128];
  row[threadIdx.x] = threadIdx.x;
  x[threadIdx.x] = row[127 - threadIdx.x];
}
extern "C" __global__ void initcheck(int* x) {  // nothing has been written
  if (x[threadIdx.x] == 12345) x[0] = 1;
}
extern "C" __global__ void synccheck(int* x) {  // threads wait that are not among those named
  if (threadIdx.x < 32) __syncwarp(threadIdx.x < 16 ? 0xffffu : 0xffu);
  x[threadIdx.x] = 1;
}
"""


def run_faulty(cubin: Path, name: str) -> None:
    """Launch one of the kernels on memory of one int per thread."""
    device = CudaDevice()
    kernels = device.load_functions(cubin.read_bytes())
    memory = device.allocate(N_THREADS * 4)
    with marked(0):
        kernels.launch(name, [ctypes.c_void_p(memory.address)], n_blocks=1, n_threads=N_THREADS)
        device.synchronise()


if __name__ == "__main__":
    run_faulty(Path(sys.argv[1]), sys.argv[2])

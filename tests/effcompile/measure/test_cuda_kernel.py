"""Programs of CUDA C++ functions: wrapped, compiled, and on a GPU run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effcompile.measure.cache import DiskCache
from effcompile.measure.libraries import LibraryMaker
from schedules import _tvm
from schedules.cuda_kernel import CudaLaunch, TensorMap, cuda_program
from schedules.target import Target, known_target
from schedules.workload import TensorSpec, Workload

ROWS, COLUMNS, TILE = 128, 256, 64

HEADER = """
__device__ __forceinline__ float twice(float x) { return 2.0f * x; }
"""
# Copies tile (x, y) into shared memory by tensor memory accelerator, 16-byte pieces of a row of
# 128 bytes exchanged by the row's low three bits, and writes doubled values to the workspace.
FIRST = """
__device__ __forceinline__ void copy_tile(const CUtensorMap& map, float* out, unsigned char* raw) {
  unsigned char* arena = (unsigned char*)(((unsigned long long)raw + 1023) & ~1023ull);
  __shared__ alignas(8) unsigned long long arrived;
  unsigned bar = (unsigned)__cvta_generic_to_shared(&arrived);
  unsigned tile = (unsigned)__cvta_generic_to_shared(arena);
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared.b64 [%0], 1;" :: "r"(bar));
    asm volatile("fence.proxy.async.shared::cta;");
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], 8192;" :: "r"(bar));
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%2, %3}], [%4];"
        :: "r"(tile), "l"(&map), "r"((int)blockIdx.x * 64), "r"((int)blockIdx.y * 64), "r"(bar)
        : "memory");
  }
  unsigned done = 0;
  while (!done)
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], 0;"
                 " selp.u32 %0, 1, 0, p; }" : "=r"(done) : "r"(bar) : "memory");
  const half* held = reinterpret_cast<const half*>(arena);
  for (int i = threadIdx.x; i < 64 * 64; i += 128) {
    int row = i / 64, column = i % 64;
    int piece = (column / 8) ^ (row % 8);
    float x = __half2float(held[row * 64 + piece * 8 + column % 8]);
    out[(blockIdx.y * 64 + row) * 256 + blockIdx.x * 64 + column] = twice(x);
  }
}
"""
SECOND = """
__device__ __forceinline__ void add_one(const float* doubled, float* y) {
  int i = blockIdx.x * 128 + threadIdx.x;
  y[i] = twice(doubled[i]) + 1.0f;
}
"""
ALONE = """
__device__ __forceinline__ void add_one(const half* x, float* y) {
  int i = blockIdx.x * 128 + threadIdx.x;
  y[i] = twice(__half2float(x[i])) + 1.0f;
}
"""


def workload() -> Workload:
    return Workload(
        op="generic",
        name="four_x_plus_one",
        inputs=(TensorSpec(name="x", shape=(ROWS, COLUMNS), dtype="float16"),),
        outputs=(TensorSpec(name="y", shape=(ROWS, COLUMNS), dtype="float32"),),
        attrs={},
        program="",
        program_hash="",
    )


def program() -> Any:
    tiles = TensorMap(
        buffer="x", shape=(COLUMNS, ROWS), strides_bytes=(2 * COLUMNS,), box=(TILE, TILE)
    )
    doubled = TensorSpec(name="doubled", shape=(ROWS, COLUMNS), dtype="float32")
    launches = [
        CudaLaunch(
            function="copy_tile",
            source=FIRST,
            headers=(HEADER,),
            arguments=(tiles, "doubled"),
            grid=(COLUMNS // TILE, ROWS // TILE),
            block=(128,),
            shared_bytes=60_000,
            min_blocks=2,
        ),
        CudaLaunch(
            function="add_one",
            source=SECOND,
            headers=(HEADER,),
            arguments=("doubled", "y"),
            grid=(ROWS * COLUMNS // 128,),
            block=(128,),
        ),
    ]
    return cuda_program(workload(), launches, workspaces=[doubled])


def built(target: Target, folder: Path) -> Any:
    return made(_tvm.load().IRModule({"main": program()}), target, folder)


def made(module: Any, target: Target, folder: Path) -> Any:
    maker = LibraryMaker(
        target=target, cache=DiskCache(folder / "cache"), folder=folder, fast_math=True
    )
    return maker.make(module, flops=None, unique_bytes=None)


def test_every_function_becomes_a_kernel(tmp_path: Path) -> None:
    build = built(known_target("h200"), tmp_path)
    first, second = build.stats.kernels
    assert (first.grid, first.block) == ((4, 2, 1), (128, 1, 1))
    assert first.dynamic_shared_bytes == 60_000
    assert first.registers_per_thread and first.spill_bytes == 0
    assert second.grid == (256, 1, 1)


def test_programs_with_functions_of_one_name_share_a_module(tmp_path: Path) -> None:
    texts = [ALONE, ALONE.replace("1.0f", "2.0f"), ALONE]
    functions = {
        f"main_{place}": added(text).with_attr("global_symbol", f"main_{place}")
        for place, text in enumerate(texts)
    }
    build = made(_tvm.load().IRModule(functions), known_target("h200"), tmp_path)
    assert len(build.stats.kernels) == len(texts)
    assert all(kernel.registers_per_thread for kernel in build.stats.kernels)


def added(text: str) -> Any:
    """A program of one launch."""
    launch = CudaLaunch(
        function="add_one",
        source=text,
        headers=(HEADER,),
        arguments=("x", "y"),
        grid=(ROWS * COLUMNS // 128,),
        block=(128,),
    )
    return cuda_program(workload(), [launch])


@pytest.mark.gpu
def test_tensor_maps_and_workspaces_work_on_a_gpu(tmp_path: Path) -> None:
    import torch

    from effcompile.measure.environment import detect_target
    from effcompile.measure.session import load_runtime

    build = built(detect_target("cuda"), tmp_path)
    load_runtime("cuda")
    import tvm

    function = tvm.runtime.load_module(build.library_path)["main"]
    x = torch.randn(ROWS, COLUMNS, device="cuda", dtype=torch.float16)
    y = torch.empty(ROWS, COLUMNS, device="cuda")
    function(tvm.runtime.from_dlpack(x), tvm.runtime.from_dlpack(y))
    torch.cuda.synchronize()
    np.testing.assert_allclose(y.cpu(), 4 * x.float().cpu() + 1)

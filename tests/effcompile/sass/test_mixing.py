"""Machine code is compiled here from sources whose work is known to the last instruction."""

from __future__ import annotations

from functools import cache

import pytest

from effcompile.measure import nvrtc, toolkit
from effcompile.sass.cubin import kernels_in
from effcompile.sass.mixing import mix_in
from schedules.instruction_mix import InstructionMix

pytestmark = pytest.mark.skipif(
    not toolkit.include_dirs() or nvrtc.in_process() is None, reason="no CUDA compiler"
)

LOOPS = """
extern "C" __global__ void nested(float* x, const float* y) {
  float a = x[threadIdx.x];
  #pragma unroll 1
  for (int i = 0; i < 24; ++i) {
    #pragma unroll 1
    for (int j = 0; j < 10; ++j) a = fmaf(a, y[i], y[j]);
    a = a * y[i + 1];
  }
  x[threadIdx.x] = a;
}
extern "C" __global__ void strided(float* x, const float4* y) {
  float a = 0;
  #pragma unroll 1
  for (int i = threadIdx.x; i < 1000; i += blockDim.x) a += y[i].x * y[i].y;
  x[threadIdx.x] = a;
}
extern "C" __global__ void triangle(float* x) {
  float a = x[threadIdx.x];
  #pragma unroll 1
  for (int i = 0; i < 2 * blockIdx.x; ++i) a = fmaf(a, a, 0.5f);
  x[threadIdx.x] = a;
}
extern "C" __global__ void roles(float* x) {
  float a = x[threadIdx.x];
  if (threadIdx.x < 32) {
    #pragma unroll 1
    for (int i = 0; i < 100; ++i) a = fmaf(a, a, 0.5f);
  }
  x[threadIdx.x] = a;
}
extern "C" __global__ void data(float* x, const int* n) {
  float a = x[threadIdx.x];
  #pragma unroll 1
  for (int i = 0; i < n[0]; ++i) a = fmaf(a, a, 0.5f);
  x[threadIdx.x] = a;
}
"""

MATRICES = """
extern "C" __global__ void mma(float* x, const unsigned* y) {
  float d[4] = {0, 0, 0, 0};
  unsigned a[4], b[2];
  for (int i = 0; i < 4; ++i) a[i] = y[i * 32 + threadIdx.x];
  for (int i = 0; i < 2; ++i) b[i] = y[i * 64 + threadIdx.x];
  #pragma unroll 1
  for (int k = 0; k < 7; ++k)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  for (int i = 0; i < 4; ++i) x[i * 32 + threadIdx.x] = d[i];
}
"""

WIDE = """
extern "C" __global__ void wgmma(float* x, unsigned long long a, unsigned long long b) {
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = x[i * 128 + threadIdx.x];
  asm volatile("wgmma.fence.sync.aligned;\\n"
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 "
    "{%0,%1,%2,%3}, %4, %5, 1, 1, 1, 0, 0;\\n"
    "wgmma.commit_group.sync.aligned;\\nwgmma.wait_group.sync.aligned 0;"
    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "l"(a), "l"(b));
  for (int i = 0; i < 4; ++i) x[i * 128 + threadIdx.x] = d[i];
}
"""

COPIES = """
extern "C" __global__ void copies(float* x) {
  __shared__ float s[1024];
  unsigned at = __cvta_generic_to_shared(s + threadIdx.x * 4);
  #pragma unroll 1
  for (int i = 0; i < 5; ++i)
    asm volatile("cp.async.cg.shared.global [%0],[%1],16;"
      :: "r"(at), "l"(x + i * 512 + threadIdx.x * 4));
  asm volatile("cp.async.commit_group; cp.async.wait_group 0;");
  __syncthreads();
  x[threadIdx.x] = s[threadIdx.x * 3] + s[threadIdx.x];
}
"""


@cache
def _cubin(source: str, arch: str) -> bytes:
    return nvrtc.best_front_end().compile(source, arch=arch, flags=(), ptxas=("-v",)).cubin


def _mix(
    source: str,
    kernel: str,
    *,
    block: int = 32,
    grid: int = 1,
    arch: str = "sm_90",
) -> InstructionMix:
    found = mix_in(_cubin(source, arch), kernel, arch=arch, grid=(grid, 1, 1), block=(block, 1, 1))
    assert found is not None
    return found


@pytest.mark.parametrize("arch", ["sm_80", "sm_89", "sm_90"])
def test_nested_loops_multiply(arch: str) -> None:
    found = _mix(LOOPS, "nested", arch=arch)
    assert found.fp32 == 24 * 10 + 24
    assert found.n_unknown_branches == 0
    assert found.global_store_bytes == 32 * 4


def test_a_strided_loop_runs_as_often_as_its_first_lane_says() -> None:
    # 1000 elements over 128 threads: warps 0 to 3 start at 0, 32, 64, 96 and step by 128;
    # lanes at 0 and 32 and 64 run 8 times, the one at 96 + 7 * 128 = 992 < 1000 as well.
    found = _mix(LOOPS, "strided", block=128)
    assert found.global_load_bytes in (8 * 32 * 8, 8 * 32 * 16)
    assert found.n_unknown_branches == 0


def test_work_that_grows_with_the_block_is_taken_from_the_middle() -> None:
    # Blocks 0 to 9 do 0, 2, ... 18 rounds; block 5 does 10.
    assert _mix(LOOPS, "triangle", grid=10).fp32 == 10


def test_warps_with_different_roles_are_averaged() -> None:
    # One of four warps does 100 rounds.
    assert _mix(LOOPS, "roles", block=128).fp32 == 25


def test_a_loop_bound_read_from_memory_is_reported_as_unknown() -> None:
    found = _mix(LOOPS, "data")
    assert found.n_unknown_branches > 0


def test_matrix_instructions_count_their_multiply_adds() -> None:
    found = _mix(MATRICES, "mma")
    assert found.tensor == 7
    assert found.tensor_macs == 7 * 16 * 8 * 16
    assert _mix(MATRICES, "mma", arch="sm_80").tensor_macs == 7 * 16 * 8 * 16


def test_a_warp_has_a_quarter_of_its_groups_matrix_instruction() -> None:
    found = _cubin(WIDE, "sm_90a")
    mix = mix_in(found, "wgmma", arch="sm_90a", grid=(1, 1, 1), block=(128, 1, 1))
    assert mix is not None
    assert mix.tensor_macs == 64 * 8 * 16 / 4


def test_copies_that_pass_no_register_are_told_from_loads() -> None:
    found = _mix(COPIES, "copies")
    assert found.async_copy_bytes == 5 * 32 * 16
    assert found.global_load_bytes == 0
    assert found.shared_load_bytes == 2 * 32 * 4


def test_no_instruction_of_these_kernels_is_of_unknown_kind() -> None:
    for source, kernel in ((LOOPS, "nested"), (MATRICES, "mma"), (COPIES, "copies")):
        assert _mix(source, kernel).other == 0


def test_bytes_that_are_no_image_hold_no_kernel() -> None:
    assert kernels_in(b"not an image") == {}
    assert mix_in(b"", "k", arch="sm_90", grid=(1, 1, 1), block=(1, 1, 1)) is None


def test_an_encoding_that_is_not_known_gives_nothing_rather_than_guesses() -> None:
    cubin = _cubin(LOOPS, "sm_90")
    assert mix_in(cubin, "nested", arch="sm_100", grid=(1, 1, 1), block=(1, 1, 1)) is None

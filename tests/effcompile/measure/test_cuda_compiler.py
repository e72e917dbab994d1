from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from effcompile.errors import SourceRejected
from effcompile.measure import nvrtc, prologue, toolkit
from effcompile.measure.cache import DiskCache
from effcompile.measure.cuda_compiler import CudaCompiler

pytestmark = pytest.mark.skipif(not toolkit.include_dirs(), reason="no CUDA headers")

# As TVM opens a source, then a kernel that keeps 64 floats in flight.
OPENING = """
#ifdef __CUDACC_RTC__
  #include <cuda/std/cstdint>
  using cuda::std::int32_t;
#else
  #include <cstdint>
  #include <cuda.h>
#endif
"""
SUM = 'extern "C" __global__ void sum_kernel(float* x, int32_t n) {{ {body} }}'
SIMPLE = OPENING + SUM.format(body="x[threadIdx.x] += n;")
SHARED = OPENING + SUM.format(
    body="__shared__ float s[256]; s[threadIdx.x] = n; x[0] = s[255 - n];"
)
NEEDS_STD = (
    OPENING.replace("using", "#include <cuda/std/type_traits>\n  using", 1)
    + 'extern "C" __global__ void k(float* x) { x[0] = cuda::std::is_same<int, int>::value; }'
)


@pytest.fixture
def compiler(tmp_path: Path) -> CudaCompiler:
    return CudaCompiler(arch="sm_90", cache=DiskCache(tmp_path))


def test_machine_code_comes_with_the_assemblers_numbers(compiler: CudaCompiler) -> None:
    assert compiler.machine_code(SHARED)[:4] == b"\x7fELF"
    (report,) = compiler.compiled[0].reports
    assert report.name == "sum_kernel"
    assert report.static_shared_bytes == 1024
    assert 1 < report.registers_per_thread < 255
    assert report.spill_bytes == 0


def test_the_short_opening_gives_the_same_kernel(compiler: CudaCompiler) -> None:
    short = prologue.slim(SIMPLE)
    assert short is not None
    assert compiler._run(short).reports == compiler._run(prologue.full(SIMPLE)).reports


def test_eight_lanes_are_made_as_tvm_prints_them(compiler: CudaCompiler) -> None:
    source = OPENING + (
        '#include <cuda_fp16.h>\nextern "C" __global__ void k(uint4* x, const half* h, int n) {\n'
        "  longlong4 i = make_longlong4(n, n, n, n, n, n, n, (n * 2));\n"
        "  int j = ((int2*)(&(i.w)))->y;\n"
        "  x[j] = make_uint4(h[j], h[1], h[2], h[3], h[4], h[5], h[6], h[7]);\n}"
    )
    short = prologue.slim(source)
    assert short is not None
    assert compiler._run(short).reports == compiler._run(prologue.full(source)).reports


def test_machine_code_depends_on_the_code_and_not_on_comments(compiler: CudaCompiler) -> None:
    # Otherwise equal kernels of different candidates would be measured twice.
    code = compiler.machine_code(SIMPLE)
    assert compiler.machine_code(SIMPLE + "// a comment") == code
    assert compiler.machine_code(SIMPLE.replace("+=", "-=")) != code


def test_a_source_that_needs_the_headers_keeps_them(compiler: CudaCompiler) -> None:
    assert prologue.slim(NEEDS_STD) is None
    assert compiler.machine_code(NEEDS_STD)[:4] == b"\x7fELF"


def test_equal_sources_are_compiled_once(compiler: CudaCompiler, tmp_path: Path) -> None:
    class Refuses:
        version = compiler._front_end.version

        def compile(self, source: str, **_: object) -> nvrtc.MachineCode:
            raise AssertionError("compiled again")

    made = compiler.machine_code(SIMPLE)
    second = CudaCompiler(arch="sm_90", cache=DiskCache(tmp_path), front_end=Refuses())
    assert second.machine_code(SIMPLE) == made
    assert second.compiled == compiler.compiled


def test_flags_and_architecture_are_part_of_the_key(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    divide = OPENING + SUM.format(body="x[0] = x[1] / x[2];")
    codes = {
        CudaCompiler(arch=arch, cache=cache, fast_math=fast).machine_code(divide)
        for arch in ("sm_80", "sm_90")
        for fast in (True, False)
    }
    assert len(codes) == 4


def test_a_refused_source_shows_the_compilers_words(compiler: CudaCompiler) -> None:
    with pytest.raises(SourceRejected, match="nothing_known"):
        compiler.machine_code(OPENING + SUM.format(body="nothing_known();"))


@pytest.mark.skipif(toolkit.nvcc_path() is None, reason="no nvcc")
def test_the_offline_compiler_stands_in(tmp_path: Path) -> None:
    path = toolkit.nvcc_path()
    assert path is not None
    compiler = CudaCompiler(arch="sm_90", cache=None, front_end=nvrtc.Nvcc(path))
    compiler.machine_code(SHARED)
    (report,) = compiler.compiled[0].reports
    assert report.static_shared_bytes == 1024
    short = prologue.slim(SIMPLE)
    assert short is not None
    assert compiler._run(short).reports == compiler._run(prologue.full(SIMPLE)).reports
    with pytest.raises(SourceRejected, match="nothing_known"):
        compiler.machine_code(OPENING + SUM.format(body="nothing_known();"))


@pytest.mark.skipif(toolkit.nvcc_path() is None, reason="needs nvcc")
def test_bindings_without_their_library_are_as_good_as_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> None:
        raise RuntimeError('Failure finding "libnvrtc.so.13"')

    bindings = SimpleNamespace(nvrtcVersion=missing)
    package = SimpleNamespace(nvrtc=bindings)
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(bindings=package))
    monkeypatch.setitem(sys.modules, "cuda.bindings", package)
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", bindings)
    assert isinstance(nvrtc.best_front_end.__wrapped__(), nvrtc.Nvcc)

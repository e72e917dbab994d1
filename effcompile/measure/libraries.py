"""One program to one shared library, with what is known of its machine code.

Runs in build processes. The library cache is keyed by the program, the target and the
versions that decide the machine code, so a candidate built in an earlier run costs a
file read.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from effcompile.measure.cache import DiskCache, write_beside
from effcompile.measure.cuda_compiler import CompiledSource, CudaCompiler
from effcompile.measure.launch_geometry import LaunchGeometry, LoweringWatch
from effcompile.sass.mixing import mix_in
from schedules import _tvm
from schedules.instruction_mix import InstructionMix
from schedules.lowering import pipeline
from schedules.stats import KernelResources, KernelStats
from schedules.target import Target
from search.trial import Build

# Raised when the content of libraries or of cache entries changes meaning.
LIBRARY_VERSION = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A built program as the cache keeps it.

    Attributes:
        binary_id: Content id of machine code and launch geometry.
        kernels: Device functions in launch order.
        code_bytes: Size of the machine code.
        content: The shared library.
    """

    binary_id: str
    kernels: tuple[KernelResources, ...]
    code_bytes: int
    content: bytes


class LibraryMaker:
    """Builds scheduled programs for one target.

    Args:
        target: What to compile for.
        cache: Holds libraries and machine code; shared by processes and runs.
        folder: Receives the libraries, named by binary id; belongs to the run, so that
            cleaning the cache cannot take a finalist away.
        fast_math: See ``BuildConfig``.
    """

    def __init__(self, *, target: Target, cache: DiskCache, folder: Path, fast_math: bool) -> None:
        self._target = target
        self._cache = cache
        self._folder = folder
        self._compiler = (
            CudaCompiler(arch=target.arch, cache=cache, fast_math=fast_math)
            if target.kind == "cuda"
            else None
        )
        self._tvm = _tvm.load()
        if self._compiler is not None:
            register_compiler(self._compiler)

    def make(self, program: Any, *, flops: float | None, unique_bytes: int | None) -> Build:
        """Build a program, or take it from the cache, and put its library in the folder.

        Args:
            program: ``IRModule`` with a scheduled ``main``.
            flops: Floating-point operations of the workload, if counted.
            unique_bytes: Compulsory traffic of the workload, if counted.
        """
        begin = time.monotonic()
        key = self._key(program)
        payload = self._cache.get(key)
        library = self._decode(payload) if payload else self._compile(program)
        if payload is None:
            self._cache.put(key, msgspec.msgpack.encode(library))
        path = self._folder / f"{library.binary_id}.so"
        if not path.is_file():
            write_beside(path, library.content)
        return Build(
            library_path=str(path),
            binary_id=library.binary_id,
            stats=KernelStats(
                kernels=library.kernels,
                code_bytes=library.code_bytes,
                flops=flops,
                unique_bytes=unique_bytes,
            ),
            build_s=0.0 if payload else time.monotonic() - begin,
            from_cache=payload is not None,
        )

    def _key(self, program: Any) -> str:
        identity = [
            LIBRARY_VERSION,
            self._tvm.__version__,
            self._target,
            list(self._compiler.identity) if self._compiler else [],
            str(self._tvm.ir.save_json(program)),
        ]
        return hashlib.sha256(msgspec.json.encode(identity)).hexdigest()

    def _decode(self, payload: bytes) -> Library:
        return msgspec.msgpack.decode(payload, type=Library)

    def _compile(self, program: Any) -> Library:
        tvm = self._tvm
        watch = LoweringWatch()
        # Left in by layout-rewriting traces, where it stands for a weight packed ahead of
        # time; a candidate is measured on the weights as they are.
        clean = tvm.s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)
        target = _tvm.tvm_target(self._target)
        if self._compiler is not None:
            self._compiler.compiled.clear()
        with target, tvm.transform.PassContext(opt_level=3, instruments=[watch.instrument()]):
            executable = tvm.compile(clean(program), target, tir_pipeline=pipeline())
        with tempfile.TemporaryDirectory(prefix="effcompile-") as folder:
            path = Path(folder) / "library.so"
            executable.export_library(str(path))
            content = path.read_bytes()
            code = self._machine_code(executable, Path(folder))
        compiled = self._compiler.compiled if self._compiler else []
        geometry = [watch.launches, watch.host_hash] if self._compiler else []
        digest = hashlib.sha256(code + msgspec.json.encode(geometry)).hexdigest()
        return Library(
            binary_id=digest[:32],
            kernels=_kernels(watch, compiled, self._target.arch),
            code_bytes=len(code),
            content=content,
        )

    def _machine_code(self, executable: Any, folder: Path) -> bytes:
        if self._compiler is None:
            path = folder / "object.o"
            executable.mod.write_to_file(str(path), "o")
            return path.read_bytes()
        if not self._compiler.compiled:
            # Without the CUDA runtime library TVM keeps the source and asks nobody.
            for module in executable.mod.imports:
                self._compiler.machine_code(module.inspect_source())
        return b"".join(compiled.cubin for compiled in self._compiler.compiled)


def register_compiler(compiler: CudaCompiler) -> None:
    """Make a compiler the one that TVM asks in this process."""
    import tvm_ffi

    tvm_ffi.register_global_func("tvm_callback_cuda_compile", compiler.machine_code, override=True)


def _kernels(
    watch: LoweringWatch, compiled: list[CompiledSource], arch: str
) -> tuple[KernelResources, ...]:
    reports = {report.name: report for made in compiled for report in made.reports}
    kernels = []
    for launch in watch.launches:
        report = reports.get(launch.kernel)
        kernels.append(
            KernelResources(
                name=launch.kernel,
                grid=launch.grid,
                block=launch.block,
                dynamic_shared_bytes=launch.dynamic_shared_bytes,
                registers_per_thread=report.registers_per_thread if report else None,
                static_shared_bytes=report.static_shared_bytes if report else None,
                spill_bytes=report.spill_bytes if report else None,
                stack_bytes=report.stack_bytes if report else None,
                mix=_mix(launch, compiled, arch),
            )
        )
    return tuple(kernels)


def _mix(
    launch: LaunchGeometry, compiled: list[CompiledSource], arch: str
) -> InstructionMix | None:
    """What a warp of a launch executes, from whichever image holds the kernel."""
    found = (
        mix_in(made.cubin, launch.kernel, arch=arch, grid=launch.grid, block=launch.block)
        for made in compiled
    )
    return next((one for one in found if one is not None), None)

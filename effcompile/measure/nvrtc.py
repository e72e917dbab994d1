"""CUDA C++ to machine code: run-time compilation library, or ``nvcc`` where that is missing."""

from __future__ import annotations

import logging
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from effcompile.errors import CompilerUnavailable, SourceRejected
from effcompile.measure import toolkit

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineCode:
    """What a compiler made of one source.

    Attributes:
        cubin: ELF image with the kernels.
        log: Everything the compiler and the assembler said.
    """

    cubin: bytes
    log: str


class CudaFrontEnd(Protocol):
    """One way to turn CUDA C++ into machine code."""

    @property
    def version(self) -> str:
        """Name and version; part of cache keys."""

    def compile(
        self, source: str, *, arch: str, flags: Sequence[str], ptxas: Sequence[str]
    ) -> MachineCode:
        """Compile one source.

        Args:
            source: CUDA C++.
            arch: ``sm_90`` style.
            flags: Options both compilers know.
            ptxas: Options of the assembler, without prefix.

        Raises:
            SourceRejected: The compiler refused the source; the message is its log.
        """


def errors_first(log: str) -> str:
    """A compiler's log with its errors on top: what is kept of a long one is its opening."""
    lines = log.splitlines()
    errors = [line for line in lines if " error" in line or " fatal" in line]
    return "\n".join([*errors, *lines])


class Nvrtc:
    """NVIDIA's run-time compilation library: in process, no host compiler, no files."""

    def __init__(self) -> None:
        from cuda.bindings import nvrtc

        self._nvrtc: Any = nvrtc
        _, major, minor = nvrtc.nvrtcVersion()
        self.version = f"nvrtc {major}.{minor}"

    def compile(
        self, source: str, *, arch: str, flags: Sequence[str], ptxas: Sequence[str]
    ) -> MachineCode:
        """See :meth:`CudaFrontEnd.compile`."""
        options = [f"--gpu-architecture={arch}", "-default-device", "--device-int128", *flags]
        options += [f"-I{folder}" for folder in toolkit.include_dirs()]
        options += [f"--ptxas-options={option}" for option in ptxas]
        nvrtc = self._nvrtc
        program = _checked(nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, None, None))
        try:
            (status,) = nvrtc.nvrtcCompileProgram(
                program, len(options), [option.encode() for option in options]
            )
            log = self._log(program)
            if int(status) != 0:
                raise SourceRejected(
                    f"{self.version} refused the source ({status.name}):\n{errors_first(log)}"
                )
            cubin = bytearray(_checked(nvrtc.nvrtcGetCUBINSize(program)))
            _checked(nvrtc.nvrtcGetCUBIN(program, cubin))
            return MachineCode(cubin=bytes(cubin), log=log)
        finally:
            nvrtc.nvrtcDestroyProgram(program)

    def _log(self, program: Any) -> str:
        log = bytearray(_checked(self._nvrtc.nvrtcGetProgramLogSize(program)))
        _checked(self._nvrtc.nvrtcGetProgramLog(program, log))
        return bytes(log).rstrip(b"\0").decode(errors="replace")


def _checked(result: tuple[Any, ...]) -> Any:
    if int(result[0]) != 0:
        raise SourceRejected(f"run-time compilation failed: {result[0].name}.")
    return result[1] if len(result) > 1 else None


class Nvcc:
    """The offline compiler, as a child process; slower, same machine code."""

    def __init__(self, path: str) -> None:
        self.path = path
        shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
        self.version = shown.stdout.strip().splitlines()[-1]

    def compile(
        self, source: str, *, arch: str, flags: Sequence[str], ptxas: Sequence[str]
    ) -> MachineCode:
        """See :meth:`CudaFrontEnd.compile`."""
        with tempfile.TemporaryDirectory(prefix="effcompile-") as folder:
            code, cubin = Path(folder) / "kernel.cu", Path(folder) / "kernel.cubin"
            code.write_text(source)
            command = [self.path, "-cubin", f"-arch={arch}", "-o", str(cubin), str(code), *flags]
            command += [f"-Xptxas={option}" for option in ptxas]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            log = done.stdout + done.stderr
            if done.returncode != 0:
                raise SourceRejected(f"nvcc refused the source:\n{errors_first(log)}")
            return MachineCode(cubin=cubin.read_bytes(), log=log)


@cache
def best_front_end() -> CudaFrontEnd:
    """Run-time compilation if its bindings and its library are installed, else ``nvcc``.

    Raises:
        CompilerUnavailable: Neither is here.
    """
    found = in_process()
    if found is not None:
        return found
    path = toolkit.nvcc_path()
    if path is None:
        raise CompilerUnavailable(
            "no CUDA compiler: neither NVRTC with its bindings nor nvcc were found. "
            "Install: pip install effcompile[cuda]"
        )
    return Nvcc(path)


def in_process() -> Nvrtc | None:
    """Run-time compilation; ``None`` without its bindings or its library."""
    try:
        return Nvrtc()
    # The bindings look for their library at the first call, and fail in several ways.
    except (ImportError, OSError, RuntimeError) as error:
        logger.debug("no run-time compilation: %s", error)
        return None

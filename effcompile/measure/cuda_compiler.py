"""Our CUDA compilation: flags, short sources, a shared cache, the assembler's numbers.

TVM asks for machine code through one callback; :meth:`CudaCompiler.machine_code` is what
stands behind it. Fast math is a stated choice here, never a default of somebody else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from effcompile.errors import SourceRejected
from effcompile.measure import nvrtc, prologue
from effcompile.measure.cache import DiskCache
from effcompile.measure.ptxas_log import AssemblerReport, parse

# The level TVM's own builds use: spend registers rather than reschedule.
PTXAS_OPTIONS = ("-v", "--register-usage-level=10")
BASE_FLAGS = (
    "-U__CUDA_NO_HALF_OPERATORS__",
    "-U__CUDA_NO_HALF_CONVERSIONS__",
    "-U__CUDA_NO_BFLOAT16_OPERATORS__",
    "-U__CUDA_NO_BFLOAT16_CONVERSIONS__",
    "-U__CUDA_NO_BFLOAT162_OPERATORS__",
    "-U__CUDA_NO_BFLOAT162_CONVERSIONS__",
)


# Architectures with instructions that only their own devices have, and only this suffix allows.
WITH_OWN_FEATURES = ("sm_90", "sm_100", "sm_103", "sm_120")


def feature_arch(arch: str) -> str:
    """The architecture to compile for: all instructions of the device, ``sm_90a`` for ``sm_90``.

    The plain form would run on later devices too, which embedded machine code never meets.
    """
    return f"{arch}a" if arch in WITH_OWN_FEATURES else arch


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledSource:
    """Machine code of one source, with what the compiler said of it.

    Attributes:
        cubin: ELF image with the kernels.
        reports: One per kernel.
        log: The compiler's log.
    """

    cubin: bytes
    reports: tuple[AssemblerReport, ...]
    log: str


class CudaCompiler:
    """Compiles for one architecture with one set of flags.

    Args:
        arch: ``sm_90`` style.
        cache: Shared by processes and runs.
        fast_math: Whether approximate arithmetic is allowed.
        front_end: NVRTC or nvcc; the best one here by default.
    """

    def __init__(
        self,
        *,
        arch: str,
        cache: DiskCache | None,
        fast_math: bool = True,
        front_end: nvrtc.CudaFrontEnd | None = None,
    ) -> None:
        self.arch = feature_arch(arch)
        self.flags = (*BASE_FLAGS, *(("--use_fast_math",) if fast_math else ()))
        self._cache = cache
        self._front_end = front_end or nvrtc.best_front_end()
        self.compiled: list[CompiledSource] = []

    @property
    def identity(self) -> Sequence[str]:
        """Everything beside the source that decides the machine code."""
        return [self._front_end.version, self.arch, *self.flags, *PTXAS_OPTIONS]

    def machine_code(self, source: str) -> bytes:
        """Machine code of a source as TVM generates it; kept in ``compiled`` as well.

        Raises:
            SourceRejected: The compiler refused it.
        """
        key = hashlib.sha256("\0".join([*self.identity, source]).encode()).hexdigest()
        payload = self._cache.get(key) if self._cache else None
        if payload is None:
            made = self._compile(source)
            if self._cache:
                self._cache.put(key, msgspec.msgpack.encode(made))
        else:
            made = msgspec.msgpack.decode(payload, type=CompiledSource)
        self.compiled.append(made)
        return made.cubin

    def _compile(self, source: str) -> CompiledSource:
        short = prologue.slim(source)
        if short is None:
            return self._run(prologue.full(source))
        try:
            return self._run(short)
        except SourceRejected:
            return self._run(prologue.full(source))

    def _run(self, source: str) -> CompiledSource:
        made = self._front_end.compile(
            source, arch=self.arch, flags=self.flags, ptxas=PTXAS_OPTIONS
        )
        return CompiledSource(cubin=made.cubin, reports=tuple(parse(made.log)), log=made.log)

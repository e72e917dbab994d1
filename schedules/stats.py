"""What is known of a kernel before it runs: counts, launch geometry, compiler numbers."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.instruction_mix import InstructionMix


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelResources:
    """One device function as the compiler and the launch see it.

    Attributes:
        name: Symbol of the device function.
        grid: Blocks in x, y, z.
        block: Threads in x, y, z.
        registers_per_thread: 32-bit registers; ``None`` where not reported.
        static_shared_bytes: Shared memory fixed at compile time.
        dynamic_shared_bytes: Shared memory asked for at launch.
        spill_bytes: Spill stores plus spill loads.
        stack_bytes: Local-memory frame per thread.
        mix: What a warp executes; ``None`` where the machine code was not read.
    """

    name: str
    grid: tuple[int, int, int] = (1, 1, 1)
    block: tuple[int, int, int] = (1, 1, 1)
    registers_per_thread: int | None = None
    static_shared_bytes: int | None = None
    dynamic_shared_bytes: int = 0
    spill_bytes: int | None = None
    stack_bytes: int | None = None
    mix: InstructionMix | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelStats:
    """A built candidate in numbers; several device functions if the program needs several.

    Attributes:
        kernels: Device functions in launch order; empty on CPUs.
        code_bytes: Size of the machine code.
        flops: Floating-point operations of the workload; ``None`` if not counted.
        unique_bytes: Each input read once and each output written once.
    """

    kernels: tuple[KernelResources, ...] = ()
    code_bytes: int = 0
    flops: float | None = None
    unique_bytes: int | None = None

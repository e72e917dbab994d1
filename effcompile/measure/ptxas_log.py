"""Registers, shared memory, spills and stack per kernel, from the assembler's report."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENTRY = re.compile(r"Compiling entry function '(?P<name>[^']+)' for")
_FRAME = re.compile(
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads"
)
_REGISTERS = re.compile(r"Used (?P<registers>\d+) registers")
_SHARED = re.compile(r"(?P<shared>\d+) bytes smem")


@dataclass(frozen=True, slots=True, kw_only=True)
class AssemblerReport:
    """What ``ptxas -v`` says of one kernel.

    Attributes:
        name: Symbol of the kernel.
        registers_per_thread: 32-bit registers.
        static_shared_bytes: Shared memory fixed at compile time.
        spill_bytes: Spill stores plus spill loads.
        stack_bytes: Local-memory frame per thread.
    """

    name: str
    registers_per_thread: int
    static_shared_bytes: int
    spill_bytes: int
    stack_bytes: int


def parse(log: str) -> list[AssemblerReport]:
    """One report per kernel named in the log, in its order; kernels cut short are left out."""
    starts = list(_ENTRY.finditer(log))
    ends = [*(match.start() for match in starts[1:]), len(log)][: len(starts)]
    reports = []
    for start, end in zip(starts, ends, strict=True):
        section = log[start.end() : end]
        frame, registers = _FRAME.search(section), _REGISTERS.search(section)
        if frame is None or registers is None:
            continue
        shared = _SHARED.search(section)
        reports.append(
            AssemblerReport(
                name=start["name"],
                registers_per_thread=int(registers["registers"]),
                static_shared_bytes=int(shared["shared"]) if shared else 0,
                spill_bytes=int(frame["stores"]) + int(frame["loads"]),
                stack_bytes=int(frame["stack"]),
            )
        )
    return reports

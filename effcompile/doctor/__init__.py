"""What works here and what to do about what does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from effcompile.doctor import cuda, machine, software
from effcompile.doctor.check import Check

CHECKS: tuple[Callable[[], Check], ...] = (
    software.python,
    software.one_installation,
    software.tvm_pins,
    software.tvm_works,
    software.torch,
    software.onnx,
    software.xgboost,
    machine.linker,
    machine.processor,
    machine.memory,
    machine.current_folder,
    machine.cache_folder,
    machine.temporary_folder,
    machine.cpu_energy,
    cuda.gpu,
    cuda.runtime_library,
    cuda.compiler,
    cuda.gpu_energy,
    cuda.other_processes,
)


def examine(checks: Sequence[Callable[[], Check]] = CHECKS) -> list[Check]:
    """Run every check; one that fails by itself becomes a finding, never an exception."""
    return [_run(check) for check in checks]


def _run(check: Callable[[], Check]) -> Check:
    name = check.__name__.replace("_", " ")
    try:
        return check()
    # A doctor that dies of an illness cannot name it.
    except Exception as error:
        return Check(
            name=name,
            status="warn",
            found=f"the check itself failed: {type(error).__name__}: {error}",
            advice="Report this line with the output of: effcompile doctor --json",
        )

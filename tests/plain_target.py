"""The CPU as a target of programs that run once."""

from __future__ import annotations

from functools import cache
from typing import Any

from schedules import _tvm
from schedules.target import Target


@cache
def plain_target(cpu: Target) -> Any:
    """The target without optimisations, which take far longer than one run gains by them."""
    attributes = {"kind": "llvm", "mcpu": cpu.arch, "num-cores": cpu.n_cores, "opt-level": 0}
    return _tvm.load().target.Target(attributes)

"""How scheduled programs are lowered: TVM's pipeline, and an arena of dynamic shared memory.

TVM's storage pass lets a buffer take the memory of another of a different element type, and a later
pass refuses that. Functions with several dynamic buffers are lowered without it; the
arena that the buffers are laid into afterwards gives each its place by bytes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from schedules import _tvm
from schedules.early_launch import with_early_launches
from schedules.shared_arena import has_arena, with_barriers

_NAME = "effcompile"


@cache
def pipeline() -> str:
    """Name of the pipeline to compile with; registered with TVM by the first call."""
    tvm = _tvm.load()
    tvm.tirx.compilation_pipeline.register_tir_pipeline(_NAME, _make)
    return _NAME


def _make() -> tuple[Any, Any, Any]:
    lower, finish_host, finish_device = _tvm.load().tirx.get_tir_pipeline("s_tir")

    def lower_all(module: Any) -> Any:
        return with_early_launches(_lower(module, lower))

    return lower_all, finish_host, finish_device


def _lower(module: Any, lower: Any) -> Any:
    """Lower functions with an arena apart from the others: one module has one configuration."""
    tvm = _tvm.load()
    functions = dict(module.functions.items())
    with_arena = {
        name: with_barriers(function)
        for name, function in functions.items()
        if isinstance(function, tvm.tirx.PrimFunc) and has_arena(function)
    }
    if not with_arena:
        return lower(module)
    with without_storage_pass():
        lowered = lower(tvm.IRModule(with_arena, attrs=module.attrs))
    others = {name: one for name, one in functions.items() if name not in with_arena}
    if others:
        lowered.update(lower(tvm.IRModule(others, attrs=module.attrs)))
    return lowered


def without_storage_pass() -> Any:
    """TVM's current configuration of passes, without the one for storage."""
    tvm = _tvm.load()
    current = tvm.transform.PassContext.current()
    return tvm.transform.PassContext(
        opt_level=current.opt_level,
        required_pass=current.required_pass,
        disabled_pass=[*current.disabled_pass, "tirx.StorageRewrite"],
        instruments=current.instruments,
        config=current.config,
    )

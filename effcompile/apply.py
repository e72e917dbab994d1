"""Chosen schedules into the program, and the program into one shared library."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effcompile.extract import extract_tasks
from effcompile.lower import LoweredProgram
from effcompile.output_views import outputs_as_views
from effcompile.runtime_libraries import load_cuda_runtime
from schedules import _tvm
from schedules.candidate import Candidate
from schedules.lowering import pipeline
from schedules.target import Target


def apply(lowered: LoweredProgram, choices: Mapping[str, Candidate], target: Target) -> Any:
    """Give every function of a program a schedule.

    Args:
        lowered: The program; not changed.
        choices: Task id to the candidate that won; tasks without one, and functions that
            are not tuned, get their default schedule.
        target: As in :func:`effcompile.lower.lower`.

    Returns:
        A ``tvm.IRModule`` in which every schedulable function can be built for the target.

    Raises:
        IllegalCandidate: A candidate does not belong to its task.
    """
    tvm = _tvm.load()
    from schedules.defaults import default_schedule

    tuned = _tuned_functions(lowered, choices, target)
    scheduled = tvm.IRModule(lowered.module.functions, attrs=lowered.module.attrs)
    for variable, function in lowered.module.functions_items():
        if isinstance(function, tvm.tirx.PrimFunc):
            symbol = variable.name_hint
            body = tuned.get(symbol)
            if body is None:
                body = default_schedule(function, target)
            scheduled[variable] = body.with_attr("global_symbol", symbol)
    return scheduled


def _tuned_functions(
    lowered: LoweredProgram, choices: Mapping[str, Candidate], target: Target
) -> dict[str, Any]:
    from schedules.spaces import open_space

    tuned = {}
    for extracted in extract_tasks(lowered, target) if choices else []:
        candidate = choices.get(extracted.task.task_id)
        if candidate is None:
            continue
        space = open_space(extracted.task, candidate.space)
        for symbol in extracted.functions:
            tuned[symbol] = space.realise(candidate)["main"]
    return tuned


def compile_program(
    module: Any, target: Target, library_path: str | Path, *, fast_math: bool = True
) -> Path:
    """Build a scheduled program into one self-contained shared library.

    Device code is embedded as machine code, so loading needs no compiler. Entry points
    are called as ``vm[name](*inputs, *parameters)``.

    Args:
        module: From :func:`apply`.
        target: As in :func:`effcompile.lower.lower`.
        library_path: File to write; its folder exists. Replaced atomically.
        fast_math: As the candidates were built, see ``BuildConfig``; CUDA only.

    Returns:
        The path of the library.

    Raises:
        DeviceUnavailable: CUDA machine code cannot be embedded on this machine.
    """
    if target.kind == "cuda":
        _use_cuda_compiler(target, fast_math)
    tvm = _tvm.load()
    from tvm import relax

    library_path = Path(library_path)
    # TVM picks the container format by the suffix, so the unfinished file needs one too.
    unfinished = library_path.with_name(f".{library_path.name}.{os.getpid()}.so")
    tvm_target = _tvm.tvm_target(target)
    clean = tvm.s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)
    with tvm_target:
        executable = tvm.compile(
            outputs_as_views(clean(module)),
            tvm_target,
            relax_pipeline=relax.get_pipeline("default_build"),
            tir_pipeline=pipeline(),
        )
    try:
        executable.export_library(str(unfinished))
        os.replace(unfinished, library_path)
    finally:
        unfinished.unlink(missing_ok=True)
    return library_path


def _use_cuda_compiler(target: Target, fast_math: bool) -> None:
    """Let TVM ask our compiler for machine code in this process."""
    from effcompile.measure.cuda_compiler import CudaCompiler
    from effcompile.measure.driver_stub import prepare_driver
    from effcompile.measure.libraries import register_compiler

    prepare_driver()
    _tvm.load()
    import tvm_ffi

    if tvm_ffi.get_global_func("ffi.Module.create.cuda", allow_missing=True) is None:
        # TVM skips its CUDA part if the driver library was not there at its import.
        load_cuda_runtime()
    register_compiler(CudaCompiler(arch=target.arch, cache=None, fast_math=fast_math))

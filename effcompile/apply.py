"""Chosen schedules into the program, and the program into one shared library."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effcompile.extract import extract_tasks
from effcompile.lower import LoweredProgram
from schedules import _tvm
from schedules.candidate import Candidate
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


def compile_program(module: Any, target: Target, library_path: str | Path) -> Path:
    """Build a scheduled program into one self-contained shared library.

    Device code is embedded as machine code, so loading needs no compiler. Entry points
    are called as ``vm[name](*inputs, *parameters)``.

    Args:
        module: From :func:`apply`.
        target: As in :func:`effcompile.lower.lower`.
        library_path: File to write; its folder exists. Replaced atomically.

    Returns:
        The path of the library.
    """
    tvm = _tvm.load()
    from tvm import relax

    if target.kind == "cuda":
        from effcompile.measure.compiler import install_callback

        install_callback(target)
    library_path = Path(library_path)
    # TVM picks the container format by the suffix, so the unfinished file needs one too.
    unfinished = library_path.with_name(f".{library_path.name}.{os.getpid()}.so")
    tvm_target = _tvm.tvm_target(target)
    with tvm_target:
        executable = tvm.compile(
            module, target=tvm_target, relax_pipeline=relax.get_pipeline("default_build")
        )
    try:
        executable.export_library(str(unfinished))
        os.replace(unfinished, library_path)
    finally:
        unfinished.unlink(missing_ok=True)
    return library_path

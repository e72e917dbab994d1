"""Programs that are their own schedule, written down statement by statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from schedules import _tvm
from schedules.analysis import SCHEDULED
from schedules.workload import TensorSpec


def low_level_program(tensors: Sequence[TensorSpec], emit: Callable[[Any, list[Any]], None]) -> Any:
    """The ``PrimFunc`` of some tensors, ready to be lowered.

    Args:
        tensors: Its parameters, inputs before outputs.
        emit: Writes the body, given TVM's builder of statements and the tensors' buffers.
    """
    _tvm.load()
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as tir

    with _tvm.fast_parsing(), IRBuilder() as builder, tir.prim_func(s_tir=True):
        tir.func_name("main")
        buffers = [tir.arg(spec.name, tir.buffer(spec.shape, spec.dtype)) for spec in tensors]
        tir.func_attr({"tirx.noalias": True, SCHEDULED: True})
        emit(tir, buffers)
    return builder.get()

"""Kernels for one workload, ``y = 2 x + 1``, right and wrong in every way; built for real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from effcompile.measure.cache import DiskCache
from effcompile.measure.environment import cpu_target
from effcompile.measure.libraries import LibraryMaker
from schedules import _tvm
from schedules.programs import workload_of
from schedules.task import Task
from search.trial import Build

N = 1000


def make_kernels() -> dict[str, Any]:
    """``PrimFunc`` by what is wrong with it; ``right`` is right."""
    _tvm.load()
    from tvm.script import tirx as T  # noqa: N812

    with _tvm.fast_parsing():

        @T.prim_func(s_tir=True)
        def right(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
            for i in T.serial(N):
                y[i] = x[i] * T.float32(2) + T.float32(1)

        @T.prim_func(s_tir=True)
        def constant(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
            for i in T.serial(N):
                y[i] = T.float32(1)

        @T.prim_func(s_tir=True)
        def nothing(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
            T.evaluate(0)

        @T.prim_func(s_tir=True)
        def last_missing(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
            for i in T.serial(N - 1):
                y[i] = x[i] * T.float32(2) + T.float32(1)

        @T.prim_func(s_tir=True)
        def nan(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
            for i in T.serial(N):
                y[i] = T.if_then_else(i == 7, T.float32("nan"), x[i] * T.float32(2) + T.float32(1))

        @T.prim_func(s_tir=True)
        def slightly(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
            for i in T.serial(N):
                y[i] = x[i] * T.float32(2.02) + T.float32(1)

        @T.prim_func(s_tir=True)
        def changes_input(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
            for i in T.serial(N):
                y[i] = x[i] * T.float32(2) + T.float32(1)
            for i in T.serial(N):
                x[i] = x[i] * T.float32(1)
            x[5] = T.float32(0)

        @T.prim_func(s_tir=True)
        def beyond_the_end(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
            for i in T.serial(N + 1):
                y[i] = x[i % N] * T.float32(2) + T.float32(1)

        @T.prim_func(s_tir=True)
        def before_the_start(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
            for i in T.serial(N):
                y[i] = x[i] * T.float32(2) + T.float32(1)
            for i in T.serial(2):
                y[i * 2 - 2] = x[0] * T.float32(2) + T.float32(1)

        @T.prim_func(s_tir=True)
        def adds_up(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
            for i in T.serial(N):
                y[i] = y[i] + x[i] * T.float32(2) + T.float32(1)

        @T.prim_func(s_tir=True)
        def hang(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
            T.evaluate(T.call_extern("int32", "pause"))

        @T.prim_func(s_tir=True)
        def crash(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
            T.evaluate(T.call_extern("int32", "abort"))

        @T.prim_func(s_tir=True)
        def stop_process(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
            T.evaluate(T.call_extern("int32", "_exit", 3))

        @T.prim_func(s_tir=True)
        def fork_and_hang(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
            T.evaluate(T.call_extern("int32", "fork"))
            T.evaluate(T.call_extern("int32", "pause"))

    return {name: value for name, value in locals().items() if name not in ("T",)}


def library_builder(folder: Path) -> Callable[[Any], Build]:
    """Builds a ``PrimFunc`` for this CPU."""
    tvm = _tvm.load()
    maker = LibraryMaker(
        target=cpu_target(),
        cache=DiskCache(folder / "cache"),
        folder=folder / "libraries",
        fast_math=False,
    )

    def build(function: Any) -> Build:
        module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
        return maker.make(module, flops=None, unique_bytes=None)

    return build


def twice_plus_one() -> Task:
    """The task that ``right`` solves."""
    tvm = _tvm.load()
    x = tvm.te.placeholder((N,), name="x", dtype="float32")
    y = tvm.te.compute((N,), lambda i: x[i] * 2.0 + 1.0, name="y")
    workload = workload_of(tvm.te.create_prim_func([x, y]), name="twice_plus_one")
    return Task(workload=workload, target=cpu_target())

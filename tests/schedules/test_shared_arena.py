"""Buffers that take each other's place in dynamic shared memory, and the barriers between them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from schedules import _tvm
from schedules.errors import IllegalCandidate
from schedules.shared_arena import with_barriers
from schedules.target import Target


def programs() -> dict[str, Any]:
    """Two buffers, one after the other: straight, in a loop, overlapping, under a condition."""
    _tvm.load()
    from tvm.script import tirx as T  # noqa: N812

    with _tvm.fast_parsing():

        @T.prim_func(s_tir=True)
        def straight(x: T.Buffer((32,), "float16"), y: T.Buffer((32,), "float32")):
            a = T.sblock_alloc_buffer((32,), "float16", scope="shared.dyn")
            c = T.sblock_alloc_buffer((32,), "float32", scope="shared.dyn")
            z = T.sblock_alloc_buffer((32,), "float32", scope="local")
            for tx in T.thread_binding(32, thread="threadIdx.x"):
                for _ in range(1):
                    with T.sblock("stage"):
                        a[tx] = x[tx]
                for _ in range(1):
                    with T.sblock("use"):
                        z[0] = T.Cast("float32", a[31 - tx])
                for _ in range(1):
                    with T.sblock("store"):
                        c[tx] = z[0]
                for _ in range(1):
                    with T.sblock("copy"):
                        y[tx] = c[31 - tx]

        @T.prim_func(s_tir=True)
        def in_a_loop(x: T.Buffer((32,), "float16"), y: T.Buffer((32,), "float32")):
            a = T.sblock_alloc_buffer((32,), "float16", scope="shared.dyn")
            c = T.sblock_alloc_buffer((32,), "float32", scope="shared.dyn")
            for tx in T.thread_binding(32, thread="threadIdx.x"):
                for _ in range(4):
                    for _ in range(1):
                        with T.sblock("stage"):
                            a[tx] = x[tx]
                    for _ in range(1):
                        with T.sblock("use"):
                            y[tx] = T.Cast("float32", a[31 - tx])
                    for _ in range(1):
                        with T.sblock("store"):
                            c[tx] = y[tx]
                    for _ in range(1):
                        with T.sblock("copy"):
                            y[tx] = c[31 - tx]

        @T.prim_func(s_tir=True)
        def overlapping(x: T.Buffer((32,), "float16"), y: T.Buffer((32,), "float32")):
            a = T.sblock_alloc_buffer((32,), "float16", scope="shared.dyn")
            c = T.sblock_alloc_buffer((32,), "float32", scope="shared.dyn")
            for tx in T.thread_binding(32, thread="threadIdx.x"):
                for _ in range(1):
                    with T.sblock("stage"):
                        a[tx] = x[tx]
                for _ in range(1):
                    with T.sblock("store"):
                        c[tx] = T.Cast("float32", a[31 - tx])
                for _ in range(1):
                    with T.sblock("copy"):
                        y[tx] = c[31 - tx]

        @T.prim_func(s_tir=True)
        def conditional(x: T.Buffer((32,), "float16"), y: T.Buffer((32,), "float32")):
            a = T.sblock_alloc_buffer((32,), "float16", scope="shared.dyn")
            c = T.sblock_alloc_buffer((32,), "float32", scope="shared.dyn")
            for tx in T.thread_binding(32, thread="threadIdx.x"):
                if x[tx] > T.float16(0):
                    for _ in range(1):
                        with T.sblock("stage"):
                            a[tx] = x[tx]
                    for _ in range(1):
                        with T.sblock("use"):
                            y[tx] = T.Cast("float32", a[tx])
                    for _ in range(1):
                        with T.sblock("store"):
                            c[tx] = y[tx]

    return {
        "straight": straight,
        "in_a_loop": in_a_loop,
        "overlapping": overlapping,
        "conditional": conditional,
    }


def order_of(function: Any) -> list[str]:
    """Blocks and barriers in program order."""
    pattern = r'sblock\("(stage|use|store|copy)"\)|(tvm_storage_sync)\("shared\.dyn"'
    found = re.findall(pattern, function.script())
    return [block or "barrier" for block, barrier in found]


def test_one_barrier_where_a_buffer_ends_and_another_begins() -> None:
    function = with_barriers(programs()["straight"])
    assert order_of(function) == ["stage", "use", "barrier", "store", "copy"]


def test_in_a_loop_the_next_round_waits_as_well() -> None:
    function = with_barriers(programs()["in_a_loop"])
    assert order_of(function) == ["stage", "use", "barrier", "store", "copy", "barrier"]


def test_buffers_that_live_together_need_none() -> None:
    function = with_barriers(programs()["overlapping"])
    assert order_of(function) == ["stage", "store", "copy"]


def test_where_threads_may_differ_the_candidate_is_refused() -> None:
    with pytest.raises(IllegalCandidate, match="under a condition"):
        with_barriers(programs()["conditional"])


def test_both_buffers_get_the_same_place_and_a_barrier_between(
    gpu: Target, cuda_source: Callable[..., str]
) -> None:
    tvm = _tvm.load()
    source = cuda_source(tvm.IRModule({"main": programs()["straight"]}), gpu)
    kernel = source[source.rindex("__global__") :]
    assert "__shared__" not in kernel.replace("extern __shared__", "")
    read = kernel.index("((half*)buf_dyn_shmem_ptr)[(31 - ")
    write = kernel.index("((float*)buf_dyn_shmem_ptr)[((int)threadIdx.x)]")
    assert read < kernel.index("__syncthreads", read) < write

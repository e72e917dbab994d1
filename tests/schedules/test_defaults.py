"""Every function gets a legal default schedule, and the function itself stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from schedules import _tvm
from schedules.analysis import new_schedule, unbound_nests
from schedules.defaults import default_schedule
from schedules.programs import function_of
from schedules.target import Target
from schedules.workload import Workload
from tests.schedules.norm_workloads import norm


def relu(a: Any) -> Any:
    from tvm import topi

    return topi.nn.relu(a)


def total(a: Any) -> Any:
    from tvm import topi

    return topi.sum(a)


def largest(a: Any) -> Any:
    from tvm import topi

    return topi.argmax(a, axis=1)


def running_sum(a: Any) -> Any:
    from tvm import topi

    return topi.cumsum(a, axis=1)


def convolution(a: Any, b: Any) -> Any:
    from tvm import topi

    return topi.nn.relu(topi.nn.conv2d(a, b, 1, 1, 1))


def grouped(a: Any, b: Any, c: Any) -> Any:
    from tvm import topi

    return topi.add(topi.nn.group_conv2d_nchw(a, b, 1, 0, 1, 2), c)


def chain(a: Any) -> Any:
    from tvm import topi

    return topi.exp(topi.sum(topi.nn.softmax(a), axis=1, keepdims=True) + a)


MATRIX = ((12, 50), "float32")
PROGRAMS = {
    "relu": (relu, (MATRIX,)),
    "scalar": (relu, (((), "float32"),)),
    "total": (total, (MATRIX,)),
    "largest": (largest, (MATRIX,)),
    "running_sum": (running_sum, (MATRIX,)),
    "chain": (chain, (MATRIX,)),
    # TVM's rule for reductions gives this one a schedule that its code generation refuses.
    "grouped": (
        grouped,
        (
            *(((1, 4, 10, 10), "float32"), ((8, 2, 3, 3), "float32")),
            ((1, 8, 1, 1), "float32"),
        ),
    ),
    "convolution": (convolution, (((1, 3, 9, 9), "float32"), ((8, 3, 3, 3), "float32"))),
}


@pytest.fixture(params=list(PROGRAMS))
def workload(request: pytest.FixtureRequest, describe: Callable[..., Workload]) -> Workload:
    build, arguments = PROGRAMS[request.param]
    return describe(build, *arguments)


def module(function: Any) -> Any:
    return _tvm.load().IRModule({"main": function})


def test_cpu_default_is_right(
    workload: Workload, cpu: Target, run_on_cpu: Callable[..., str | None]
) -> None:
    scheduled = default_schedule(function_of(workload), cpu)
    assert run_on_cpu(workload, module(scheduled)) is None


def test_gpu_default_binds_every_nest_and_compiles(
    workload: Workload, gpu: Target, cuda_source: Callable[..., str]
) -> None:
    scheduled = default_schedule(function_of(workload), gpu)
    assert unbound_nests(new_schedule(scheduled)) == []
    assert "__global__" in cuda_source(module(scheduled), gpu)


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_scheduling_leaves_the_function_alone(
    kind: str, workload: Workload, request: pytest.FixtureRequest
) -> None:
    import tvm_ffi

    function = function_of(workload)
    before = tvm_ffi.structural_hash(function)
    default_schedule(function, request.getfixturevalue(kind))
    assert tvm_ffi.structural_hash(function) == before


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_symbolic_extents_build(
    kind: str, request: pytest.FixtureRequest, cuda_source: Callable[..., str]
) -> None:
    tvm = _tvm.load()
    from tvm import te, topi

    target: Target = request.getfixturevalue(kind)
    rows = te.var("rows", "int64")
    a = te.placeholder((rows, 64), "float32", name="A")
    b = te.placeholder((64, 32), "float32", name="B")
    function = te.create_prim_func([a, b, topi.nn.relu(topi.matmul(a, b))])
    scheduled = default_schedule(function.with_attr("global_symbol", "dynamic"), target)
    assert scheduled.attrs["global_symbol"] == "dynamic"
    if kind == "gpu":
        assert "__global__" in cuda_source(module(scheduled), target)
    else:
        with _tvm.tvm_target(target) as tvm_target:
            tvm.compile(module(scheduled), target=tvm_target)


def test_scheduled_functions_stay_as_they_are(workload: Workload, gpu: Target) -> None:
    once = default_schedule(function_of(workload), gpu)
    assert default_schedule(once, gpu).same_as(once)


def test_threads_that_a_function_launches_itself_stay(
    gpu: Target, cuda_source: Callable[..., str]
) -> None:
    from tvm import te, topi

    data = te.placeholder((8, 4), "float32", name="data")
    places = te.placeholder((8, 2), "int64", name="places")
    updates = te.placeholder((8, 2), "float32", name="updates")
    with _tvm.tvm_target(gpu):
        result = topi.gpu.scatter_elements(data, places, updates, axis=1)
        function = te.create_prim_func([data, places, updates, result])
    function = function.with_attr("global_symbol", "main")
    source = cuda_source(module(default_schedule(function, gpu)), gpu)
    assert source.count("__launch_bounds__(1024)") >= 2


def test_sums_along_rows_are_shared_by_threads(
    gpu: Target, cuda_source: Callable[..., str]
) -> None:
    workload = norm((40, 300), "bfloat16", residual=(40, 300), keeps_sum=True)
    scheduled = default_schedule(function_of(workload), gpu)
    schedule = new_schedule(scheduled)
    (mean, variance) = (schedule.get_sblock(name) for name in ("mean_sum", "variance_sum"))
    for block in (mean, variance):
        names = [str(schedule.get(loop).thread_binding) for loop in schedule.get_loops(block)]
        assert "threadIdx.x" in "".join(names) and "blockIdx.x" in "".join(names)
        assert [int(schedule.get(loop).extent) for loop in schedule.get_loops(block)] == [
            40,
            3,
            128,
        ]
    tvm = _tvm.load()
    assert "__global__" in cuda_source(tvm.IRModule({"main": scheduled}), gpu)

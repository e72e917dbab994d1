"""The softmax family: numbers on the CPU, code shape on CUDA."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from schedules.defaults import DefaultSpace
from schedules.dtypes import numpy_dtype
from schedules.softmax import CpuSoftmaxSpace, CudaSoftmaxSpace, softmax_space
from schedules.softmax_problem import softmax_problem
from schedules.space import DesignSpace
from schedules.target import Target, known_target
from schedules.task import Task
from schedules.workload import Workload
from tests.schedules.softmax_workloads import masked

SHAPES = [((1,), "float32"), ((7, 1), "float32"), ((3, 5, 17), "float16"), ((33, 260), "bfloat16")]
PLAIN: dict[str, Any] = {
    "threads_per_row": 256,
    "rows_per_block": 1,
    "vector": 4,
    "kept_percent": 100,
    "batch": 1,
    "exp": "fma",
    "blocks_per_row": 1,
}


def cpu_space(workload: Workload, cpu: Target) -> CpuSoftmaxSpace:
    return CpuSoftmaxSpace(Task(workload=workload, target=cpu))


@pytest.mark.parametrize("tensor", SHAPES, ids=str)
@pytest.mark.parametrize("log", [False, True])
def test_cpu_programs_are_right_on_ragged_shapes(
    tensor: tuple[tuple[int, ...], str],
    log: bool,
    cpu: Target,
    softmax: Callable[..., Workload],
    run_on_cpu: Callable[..., Any],
) -> None:
    workload = softmax(*tensor, log=log, scale=0.7)
    space = cpu_space(workload, cpu)
    for candidate in space.sample(3, np.random.default_rng(1)):
        assert run_on_cpu(workload, space.realise(candidate)) is None


@pytest.mark.parametrize("exp", ["polynomial", "libm"])
def test_masked_elements_and_masked_rows(
    exp: str, cpu: Target, softmax: Callable[..., Workload], run_on_cpu: Callable[..., Any]
) -> None:
    rows = np.random.default_rng(0).standard_normal((4, 40)).astype(np.float32)
    rows[0, :20] = -np.inf
    rows[1, 1:] = np.finfo(np.float32).min
    rows[2, :] = np.finfo(np.float32).min
    rows[3, :] = -np.inf
    workload = softmax((4, 40))
    space = cpu_space(workload, cpu)
    values = {"rows_per_task": 1, "vector": 16, "exp": exp, "keep": "kept"}
    with np.errstate(invalid="ignore"):
        assert run_on_cpu(workload, space.program_module(values), [rows]) is None


MASKS = [((2, 3, 5, 17), (17,)), ((2, 3, 5, 17), (2, 1, 1, 17)), ((2, 3, 5, 17), (5, 17))]


@pytest.mark.parametrize("shapes", MASKS, ids=str)
@pytest.mark.parametrize("log", [False, True])
def test_a_mask_and_its_scale_are_part_of_the_softmax(
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    log: bool,
    cpu: Target,
    run_on_cpu: Callable[..., Any],
) -> None:
    workload = masked(*shapes, "float16", log=log)
    problem = softmax_problem(workload)
    assert problem is not None
    assert problem.mask is not None
    assert (problem.mask.shape, problem.scale) == (shapes[1], 0.5)
    spaces: list[DesignSpace] = [
        cpu_space(workload, cpu),
        DefaultSpace(Task(workload=workload, target=cpu)),
    ]
    for space in spaces:
        for candidate in space.sample(2, np.random.default_rng(1)):
            assert run_on_cpu(workload, space.realise(candidate)) is None


def test_masked_scores_get_nothing(cpu: Target, run_on_cpu: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 40)).astype(np.float32)
    mask = np.zeros((3, 40), np.float32)
    mask[0, 10:], mask[1, :] = -np.inf, np.finfo(np.float32).min
    workload = masked((2, 3, 40), (3, 40))
    space = cpu_space(workload, cpu)
    for candidate in space.sample(3, rng):
        assert run_on_cpu(workload, space.realise(candidate), [x, mask]) is None


def test_a_mask_is_read_as_wide_as_the_row(gpu: Target, cuda_source: Callable[..., str]) -> None:
    space = cuda_space(masked((2, 8, 64, 1024), (2, 1, 1, 1024)), gpu)
    values = PLAIN | {"threads_per_row": 64, "rows_per_block": 2}
    text = kernel(cuda_source(space.program_module(values), gpu))
    assert len(re.findall(r"= \*\(float4\*\)\(mask_ptr", text)) == 4


def cuda_space(workload: Workload, target: Target) -> CudaSoftmaxSpace:
    return CudaSoftmaxSpace(Task(workload=workload, target=target))


def kernel(source: str) -> str:
    return source[source.rindex('extern "C" __global__') :]


def test_row_in_registers_is_read_once_by_wide_loads(
    gpu: Target, softmax: Callable[..., Workload], cuda_source: Callable[..., str]
) -> None:
    space = cuda_space(softmax((64, 4096)), gpu)
    text = kernel(cuda_source(space.program_module(PLAIN), gpu))
    assert len(re.findall(r"= \*\(float4\*\)\(A_ptr", text)) == 4
    assert len(re.findall(r"^\s*\*\(float4\*\)\(\w+_ptr \+", text, re.M)) == 4
    assert "__launch_bounds__(256)" in text


def test_half_precision_moves_sixteen_bytes_at_a_time(
    gpu: Target, softmax: Callable[..., Workload], cuda_source: Callable[..., str]
) -> None:
    space = cuda_space(softmax((64, 4096), "bfloat16"), gpu)
    values = PLAIN | {"vector": 8}
    assert "*(uint4*)(A_ptr" in kernel(cuda_source(space.program_module(values), gpu))


def test_a_long_row_is_shared_by_a_cluster_and_read_once(
    gpu: Target, softmax: Callable[..., Workload], cuda_source: Callable[..., str]
) -> None:
    space = cuda_space(softmax((16, 131072)), gpu)
    values = PLAIN | {"threads_per_row": 1024, "blocks_per_row": 4}
    text = kernel(cuda_source(space.program_module(values), gpu))
    assert len(re.findall(r"= \*\(float4\*\)\(A_ptr", text)) == 131072 // (4 * 1024 * 4)
    assert [text.count(f"cluster_{name}(") for name in ("max", "sum", "end")] == [1, 1, 1]


def test_clusters_are_for_long_rows_and_devices_that_have_them(
    gpu: Target, softmax: Callable[..., Workload]
) -> None:
    def sizes(n: int, target: Target) -> tuple[object, ...]:
        return {k.name: k.values for k in cuda_space(softmax((2, n)), target).knobs}[
            "blocks_per_row"
        ]

    assert sizes(131072, gpu) == (1, 2, 4, 8, 16)
    assert sizes(131072, known_target("rtx5090")) == (1, 2, 4, 8)
    assert sizes(4096, gpu) == sizes(131072, known_target("a100")) == (1,)


def test_vectors_divide_the_row(gpu: Target, softmax: Callable[..., Workload]) -> None:
    for n, vectors in ((4096, (1, 2, 4, 8)), (4098, (1, 2)), (4097, (1,))):
        knobs = {k.name: k.values for k in cuda_space(softmax((2, n), "float16"), gpu).knobs}
        assert knobs["vector"] == vectors


@pytest.mark.parametrize("n", [1, 31, 4097, 262144])
def test_every_row_length_has_points(n: int, gpu: Target, softmax: Callable[..., Workload]) -> None:
    assert len(cuda_space(softmax((3, n)), gpu).points) > 0


def test_points_respect_the_device(softmax: Callable[..., Workload]) -> None:
    target = known_target("a100")
    space = cuda_space(softmax((128, 4096)), target)
    for point in space.points:
        n_threads = int(point["threads_per_row"]) * int(point["rows_per_block"])
        assert n_threads <= target.max_threads_per_block
        assert n_threads % target.warp_size == 0


def test_uncovered_workloads_have_no_family(
    gpu: Target, softmax: Callable[..., Workload], matmul: Callable[..., Workload]
) -> None:
    assert softmax_space(Task(workload=matmul(8, 8, 8), target=gpu)) is None
    assert softmax_space(Task(workload=softmax((4, 8), "float64"), target=gpu)) is None
    assert softmax_space(Task(workload=softmax((4, 8), scale=-1.0), target=gpu)) is None


def test_dtype_names_reach_numpy() -> None:
    assert numpy_dtype("bfloat16").itemsize == 2

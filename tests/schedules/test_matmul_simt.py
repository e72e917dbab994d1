"""The float32 and few-rows families: what they cover, their spaces, and their cubins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schedules.contraction import Contraction
from schedules.contraction_problem import contraction_of
from schedules.judged_space import JudgedSpace
from schedules.matmul_rows import MatmulRowsSpace, matmul_rows_space
from schedules.matmul_simt import MatmulSimtSpace, matmul_simt_space
from schedules.matmul_simt_cuda import chunk, line_lengths
from schedules.spaces import spaces_for
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.products import Product, built_point, product_workload


def task_of(product: Product, target: str = "h100") -> Task:
    return Task(workload=product_workload(product), target=known_target(target))


def float32(m: int, n: int, k: int, layout: str = "nn", ending: str = "cast") -> Product:
    return Product(m=m, n=n, k=k, layout=layout, dtype="float32", ending=ending)


@pytest.mark.parametrize("target", ["h100", "a100", "rtx4090"])
def test_every_float32_product_is_covered(target: str) -> None:
    for product in (float32(128, 256, 1024), float32(7, 5, 3, "tt"), float32(1, 77, 130, "nt")):
        assert matmul_simt_space(task_of(product, target)) is not None
    assert matmul_simt_space(task_of(Product(m=64, n=64, k=64), target)) is None


def test_few_aligned_rows_of_half_precision_are_covered() -> None:
    covered = [Product(m=1, n=4096, k=4096), Product(m=16, n=77, k=64, layout="nt")]
    others = [
        Product(m=17, n=64, k=64),
        Product(m=4, n=60, k=64),
        Product(m=4, n=64, k=60, layout="nt"),
        Product(m=4, n=64, k=64, layout="tn"),
        float32(4, 64, 64),
    ]
    assert all(matmul_rows_space(task_of(one)) is not None for one in covered)
    assert not any(matmul_rows_space(task_of(one)) for one in others)


def test_families_of_a_few_rows() -> None:
    searched = spaces_for(task_of(Product(m=16, n=512, k=512)))
    assert searched == ["matmul_rows", "matmul", "tvm"]
    searched = spaces_for(task_of(Product(m=1, n=512, k=512), "a100"))
    assert searched == ["matmul_rows", "matmul_mma", "tvm"]


@pytest.mark.parametrize(
    ("layout", "k", "n", "expected"),
    [("nn", 64, 64, (4, 4)), ("nt", 62, 64, (2, 2)), ("nn", 64, 77, (4, 1)), ("tn", 3, 64, (1, 4))],
)
def test_copies_are_as_wide_as_lines_are_aligned(
    layout: str, k: int, n: int, expected: tuple[int, int]
) -> None:
    problem = contraction_of(product_workload(float32(33, n, k, layout)))
    assert problem is not None
    assert chunks_of(problem) == expected


def chunks_of(problem: Contraction) -> tuple[int, int]:
    sides = ((problem.a, problem.m), (problem.b, problem.n))
    found = (chunk(one, line_lengths(one, extent, problem.k, 32)) for one, extent in sides)
    return next(found), next(found)


def test_no_copy_ends_behind_a_lone_row() -> None:
    problem = contraction_of(product_workload(float32(1, 64, 77, "nn")))
    assert problem is not None
    assert chunks_of(problem) == (1, 4)


SPACES = [
    (MatmulSimtSpace, float32(128, 256, 1024, ending="gelu")),
    (MatmulSimtSpace, float32(77, 131, 130, "tt")),
    (MatmulRowsSpace, Product(m=13, n=1000, k=4096, ending="gelu")),
    (MatmulRowsSpace, Product(m=1, n=1001, k=4096, layout="nt")),
]


@pytest.mark.parametrize(("family", "product"), SPACES)
def test_points_are_judged_alike_one_by_one_and_all_at_once(
    family: type[JudgedSpace], product: Product
) -> None:
    space = family(task_of(product))  # type: ignore[call-arg]
    assert len(space.points) > 50
    best = min(float(space.estimate(values)) for values in space.points[::7])
    rng = np.random.default_rng(0)
    for candidate in space.sample(40, rng):
        values = {name: int(value) for name, value in space.values_of(candidate).items()}
        assert not any(bool(applies) for applies in space.judge(values).values())
        assert float(space.estimate(values)) <= space.patience * best
        assert np.isfinite(space.numbers(values)).all()
    drawn = {tuple(point.values()) for point in space.points}
    for _ in range(200):
        values = {
            knob.name: int(knob.values[rng.integers(len(knob.values))]) for knob in space.knobs
        }
        if tuple(values.values()) in drawn or space.refusal(values) is None:
            promising = float(space.estimate(values)) <= space.patience * best
            assert (tuple(values.values()) in drawn) <= promising
            assert space.refusal(values) is None


@pytest.mark.parametrize("layout", ["nn", "nt"])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 8, 8), (1, 16, 8), (2, 8, 8), (16, 8, 16)])
def test_no_problem_is_too_small(m: int, n: int, k: int, layout: str) -> None:
    assert MatmulSimtSpace(task_of(float32(m, n, k, layout))).points
    assert MatmulRowsSpace(task_of(Product(m=m, n=n, k=k, layout=layout))).points


def test_clusters_are_for_hopper_and_splits_for_all() -> None:
    product = float32(128, 256, 1024)
    on_ampere = MatmulSimtSpace(task_of(product, "a100"), patience=1e9)
    values = dict.fromkeys((knob.name for knob in on_ampere.knobs), 1)
    values |= {"tile_row": 32, "tile_column": 32, "thread_row": 4, "thread_column": 4}
    values |= {"step": 16, "stages": 2}
    assert on_ampere.refusal({**values, "splits": 4}) is None
    assert on_ampere.refusal({**values, "cluster": 4}) == "the device has no clusters"
    on_hopper = MatmulSimtSpace(task_of(product), patience=1e9)
    assert on_hopper.refusal({**values, "cluster": 4}) is None
    assert "within clusters or among" in str(
        on_hopper.refusal({**values, "cluster": 2, "splits": 2})
    )


def test_more_patience_leaves_more_points() -> None:
    task = task_of(float32(128, 256, 256))
    few, many = (len(MatmulSimtSpace(task, patience=p).points) for p in (1.2, 2.0))
    assert 0 < few < many


@pytest.mark.parametrize(
    ("target", "family", "product"),
    [(("a100", "h100")[i % 2], *case) for i, case in enumerate(SPACES)],
)
@pytest.mark.slow
def test_points_build_without_spills_in_the_memory_they_count_on(
    target: str, family: type[JudgedSpace], product: Product, tmp_path: Path
) -> None:
    space = family(task_of(product, target))  # type: ignore[call-arg]
    (candidate,) = space.sample(1, np.random.default_rng(0))
    values = space.values_of(candidate)
    build = built_point(space, values, tmp_path, known_target(target))
    for kernel in build.stats.kernels:
        assert kernel.spill_bytes == 0, (values, kernel)
        assert kernel.dynamic_shared_bytes <= known_target(target).shared_memory_per_block_bytes

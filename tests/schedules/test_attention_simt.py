"""The float32 attention family: what it covers, its space, and its cubins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schedules.attention_simt import AttentionSimtSpace, attention_simt_space
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.decode_workloads import Decode
from tests.schedules.masked_workloads import Masked, blocks, packed
from tests.schedules.products import built_point
from tests.schedules.test_attention_gpu import Shape

DEMO = Shape(heads=4, kv_heads=4, queries=128, keys=128, dtype="float32", attrs={"causal": True})


def task_of(shape: Shape | Masked | Decode, target: str = "h100") -> Task:
    return Task(workload=shape.workload(), target=known_target(target))


@pytest.mark.parametrize("target", ["h100", "a100", "rtx4090"])
def test_float32_attention_is_covered_whatever_the_tokens(target: str) -> None:
    odd = replace(DEMO, heads=6, kv_heads=2, queries=1, keys=77, width=20, attrs={"window_left": 9})
    assert attention_simt_space(task_of(DEMO, target)) is not None
    assert attention_simt_space(task_of(odd, target)) is not None


@pytest.mark.parametrize(
    "hidden",
    [
        Masked(mask=blocks(140, 200, planes=(1, 2)), dtype="float32"),
        Decode(heads=2, kv_heads=1, keys=90, width=16, lengths="int64", dtype="float32"),
        Decode(
            heads=2,
            kv_heads=1,
            queries=90,
            keys=90,
            width=16,
            softcap=30.0,
            mask=((1, 1, 90, 90), "float32"),
            dtype="float32",
        ),
    ],
)
def test_masks_lengths_and_soft_caps_are_covered(hidden: Masked | Decode) -> None:
    assert attention_simt_space(task_of(hidden)) is not None


@pytest.mark.parametrize(
    "other",
    [
        replace(DEMO, dtype="float16"),
        replace(DEMO, width=66),
        replace(DEMO, width=260),
        Masked(mask=packed([70, 58]), form="packed", starts=(0, 70), dtype="float32"),
    ],
)
def test_what_the_program_does_not_compute_is_left_to_tvm(other: Shape | Masked) -> None:
    assert attention_simt_space(task_of(other)) is None


def test_points_are_judged_alike_one_by_one_and_all_at_once() -> None:
    space = AttentionSimtSpace(task_of(DEMO))
    best = min(float(space.estimate(point)) for point in space.points)
    for point in space.points:
        assert not any(bool(applies) for applies in space.judge(point).values())
        assert float(space.estimate(point)) <= space.patience * best
        assert np.isfinite(space.numbers(point)).all()


@pytest.mark.slow
def test_points_build_without_spills(tmp_path: Path) -> None:
    for target, shape in (("a100", DEMO), ("h100", replace(DEMO, queries=333, keys=777))):
        space = AttentionSimtSpace(task_of(shape, target))
        (candidate,) = space.sample(1, np.random.default_rng(0))
        values = space.values_of(candidate)
        (kernel,) = built_point(space, values, tmp_path, known_target(target)).stats.kernels
        assert kernel.spill_bytes == 0, (values, kernel)

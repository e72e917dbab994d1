"""Attention by products of warps without a GPU: what it covers, its space, its machine code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schedules.attention_mma import AttentionMmaSpace, attention_mma_space
from schedules.spaces import spaces_for
from schedules.target import KNOWN_TARGETS, known_target
from schedules.task import Task
from tests.schedules.decode_workloads import Decode
from tests.schedules.masked_workloads import Masked, frames, packed
from tests.schedules.products import built_point

WIDE = Decode(heads=8, kv_heads=2, queries=700, keys=900, width=128, causal=True)
WITHOUT_WARPGROUPS = ("a100", "rtx3090", "rtx4090", "b200", "rtx5090")


def task_of(one: Decode, target: str = "a100") -> Task:
    return Task(workload=one.workload(), target=known_target(target))


@pytest.mark.parametrize("target", WITHOUT_WARPGROUPS)
def test_it_comes_first_where_there_are_no_warpgroups(target: str) -> None:
    assert spaces_for(task_of(WIDE, target))[0] == "attention_mma"


def test_on_hopper_it_serves_only_what_warpgroups_do_not() -> None:
    assert "attention_mma" not in spaces_for(task_of(WIDE, "h100"))
    masked = spaces_for(task_of(replace(WIDE, lengths="int32"), "h100"))
    assert len([name for name in masked if name.startswith("attention")]) == 1
    assert spaces_for(task_of(WIDE, "h100"), only=["attention_mma"]) == ["attention_mma"]


@pytest.mark.parametrize(
    "masked",
    [
        Masked(mask=frames([100, 92])),
        Masked(mask=packed([100, 92]), form="packed", starts=(0, 100, 192)),
    ],
    ids=["frames", "packed"],
)
def test_masks_in_blocks_and_packed_sequences_are_covered(masked: Masked) -> None:
    space = attention_mma_space(masked.task(known_target("a100")))
    assert isinstance(space, AttentionMmaSpace)
    tiles = {point["key_tile"] for point in space.points}
    assert masked.form == "packed" or tiles <= {16, 32, 64, 128}


@pytest.mark.parametrize(
    "other",
    [
        replace(WIDE, dtype="float32"),
        replace(WIDE, width=100),
        replace(WIDE, width=264),
        replace(WIDE, queries=8),
    ],
    ids=["float32", "odd_pitch", "too_wide", "few_queries"],
)
def test_what_the_program_does_not_compute_is_left_to_others(other: Decode) -> None:
    assert attention_mma_space(task_of(other)) is None


@pytest.mark.parametrize("target", KNOWN_TARGETS)
@pytest.mark.parametrize("width", [64, 128, 256])
def test_points_fit_every_device(target: str, width: int) -> None:
    space = AttentionMmaSpace(task_of(replace(WIDE, width=width), target))
    assert len(space.points) > 10
    largest = max(int(space._shared(point)) for point in space.points)
    assert largest <= known_target(target).shared_memory_per_block_bytes


def test_points_are_judged_alike_one_by_one_and_all_at_once() -> None:
    space = AttentionMmaSpace(task_of(WIDE))
    best = min(float(space.estimate(point)) for point in space.points)
    for point in space.points:
        assert space.refusal(point) is None
        assert float(space.estimate(point)) <= space.patience * best
        assert np.isfinite(space.numbers(point)).all()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["a100", "rtx5090"])
def test_machine_code_multiplies_what_it_must_and_spills_nothing(
    target: str, tmp_path: Path
) -> None:
    one = replace(WIDE, heads=2, causal=False, queries=1024, keys=1024)
    space = AttentionMmaSpace(task_of(one, target))
    values = {"warps": 4, "row_tiles": 2, "key_tile": 32, "stages": 1, "kept": 0}
    values |= {"longest_first": 0}
    build = built_point(space, values, tmp_path, known_target(target), decoded=True)
    (kernel,) = build.stats.kernels
    assert kernel.spill_bytes == 0
    if kernel.mix is not None:
        macs = kernel.mix.tensor_macs * kernel.grid[0] * kernel.block[0] / 32
        assert macs == 2 * one.heads * one.queries * one.keys * one.width

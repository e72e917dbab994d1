"""Masked attention without a GPU: the reference, what is covered, points that compile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effcompile.measure.cache import DiskCache
from effcompile.measure.libraries import LibraryMaker
from schedules.attention_hopper import shared_bytes
from schedules.mask_tiles import (
    mask_tiles,
)
from schedules.masked_attention import MaskedAttentionSpace, masked_attention_space
from schedules.masked_attention_cuda import query_order, tile_lengths
from schedules.references.attention import reference
from tests.schedules.attention_points import MASKED_POINT
from tests.schedules.masked_workloads import (
    MASKS,
    Masked,
    frames,
    packed,
    tree,
)
from tests.schedules.test_attention import FEW_SPILLS, H200


@pytest.mark.parametrize("form", ["tiles", "bool", "float"])
@pytest.mark.parametrize("name", MASKS)
def test_the_reference_is_softmax_under_the_mask(name: str, form: Any) -> None:
    mask = MASKS[name]
    case = Masked(
        mask=mask,
        form=form,
        batch=2,
        heads=3,
        width=8,
        dtype="float32",
        mask_dtype="float32",
        queries=0 if mask.shape[2] > 1 else 90,
    )
    inputs = case.inputs(seed=0)
    query, key, value = (x.astype(np.float64) for x in inputs[:3])
    scores = query @ key.swapaxes(2, 3) * 8**-0.5
    if form == "float":
        scores += np.where(mask, inputs[3], 0.0)
    weights = np.exp(scores) * mask
    total = weights.sum(-1, keepdims=True)
    (found,) = reference(case.workload(), inputs)
    expected = weights @ value / np.where(total, total, 1)
    # Masks are added in float32.
    np.testing.assert_allclose(found.values, expected, rtol=1e-6, atol=1e-6)
    assert name != "blocks" or (found.values[total[..., 0] == 0] == 0).all()


@pytest.mark.parametrize(
    ("case", "covered"),
    [
        (Masked(mask=tree(33, 500), form="bool"), True),
        (Masked(mask=tree(256, 500), form="bool", kv_heads=1), True),
        (Masked(mask=tree(32, 500), form="bool"), False),
        (Masked(mask=np.ones((1, 1, 64, 4096), bool), form="none"), True),
        (Masked(mask=np.ones((1, 1, 64, 1024), bool), form="none"), False),
        (Masked(mask=np.ones((1, 1, 256, 4096), bool), form="none", heads=40), False),
        (Masked(mask=frames([100]), width=80), True),
        (Masked(mask=frames([100]), width=256), True),
        (Masked(mask=frames([100]), width=20), False),
        (Masked(mask=frames([100]), dtype="float32"), False),
    ],
    ids=[
        "33",
        "256",
        "few_queries",
        "plain",
        "few_keys",
        "enough_tiles",
        "width_80",
        "width_256",
        "odd_pitch",
        "float32",
    ],
)
def test_what_is_covered(case: Masked, covered: bool) -> None:
    assert (masked_attention_space(case.task()) is not None) == covered


def test_tiles_with_most_blocks_come_first() -> None:
    space = MaskedAttentionSpace(Masked(mask=frames([300, 300, 300])).task())
    schedule = space.schedule(MASKED_POINT)
    lengths = tile_lengths(mask_tiles(frames([300, 300, 300])), 2)[0, 0]
    order = query_order(space._masked, schedule)
    assert sorted(order) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) <= 0).all() and lengths.sum() < 8 * 15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "changed"),
    [
        (Masked(mask=frames([500] * 4), width=128, dtype="bfloat16"), {"order": "longest_first"}),
        (
            Masked(mask=frames([500] * 4), width=512),
            {"key_tile": 64, "stages": 1, "products": "in_turn"},
        ),
        (
            Masked(mask=tree(200, 1000), form="float", kv_heads=1, attrs={"softcap": 20.0}),
            {"key_tile": 64, "splits": 2},
        ),
    ],
    ids=["128", "512", "float"],
)
def test_points_build_and_can_launch(
    case: Masked, changed: dict[str, int | str], tmp_path: Path
) -> None:
    space, values = masked_attention_space(case.task()), MASKED_POINT | changed
    assert isinstance(space, MaskedAttentionSpace) and space.refusal(values) is None
    maker = LibraryMaker(
        target=H200, cache=DiskCache(tmp_path / "cache"), folder=tmp_path, fast_math=True
    )
    made = maker.make(space.program_module(values), flops=None, unique_bytes=None)
    kernel = max(made.stats.kernels, key=lambda kernel: kernel.dynamic_shared_bytes)
    schedule = space.schedule(values)
    wanted = shared_bytes(space._problem, schedule, plan_bytes=space.plan_bytes(schedule))
    assert kernel.spill_bytes <= FEW_SPILLS
    assert kernel.dynamic_shared_bytes == wanted <= H200.shared_memory_per_block_bytes
    # Where the compiler cannot see that lanes agree, it makes products wait for each other.
    assert maker._compiler is not None
    assert "serialized" not in maker._compiler.compiled[-1].log


def test_a_mask_of_its_own_makes_a_task_of_its_own() -> None:
    case = Masked(mask=frames([100, 100]))
    other = replace(case, mask=packed([100, 100]))
    assert case.workload().workload_id != other.workload().workload_id

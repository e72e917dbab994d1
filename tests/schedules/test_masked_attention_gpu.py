"""Masked attention on a GPU against float64: masks of every form, ragged sizes, empty rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import finfo

from effcompile.measure.environment import detect_target
from schedules.masked_attention import MaskedAttentionSpace
from schedules.references.attention import reference
from tests.schedules.attention_points import MASKED_POINT
from tests.schedules.masked_workloads import (
    Masked,
    blocks,
    frames,
    packed,
    sliding,
    tree,
)
from tests.schedules.test_headwise_attention_gpu import TOLERANCE, launch

pytestmark = pytest.mark.gpu

ONE: dict[str, int | str] = {"warpgroups": 1, "key_tile": 64, "turns": "free", "stages": 1}
ONE |= {"products": "in_turn"}
THREE: dict[str, int | str] = {"warpgroups": 3, "key_tile": 64, "order": "longest_first"}
NARROW: dict[str, int | str] = {"key_tile": 64, "turns": "free"}
WIDE: dict[str, int | str] = {"key_tile": 192, "turns": "free"}
VERY_WIDE: dict[str, int | str] = {"key_tile": 64, "stages": 1, "products": "in_turn"}
KEPT: dict[str, int | str] = {"blocks": "persistent"}
FRAMES = Masked(mask=frames([200, 70, 130, 64, 1, 300]))
BLOCKS = Masked(mask=blocks(500, 700))
TREE = Masked(mask=tree(100, 1000), form="bool", kv_heads=1)
ADDED = Masked(mask=blocks(300, 700), form="float", mask_dtype="float16")

PACKED = Masked(
    mask=packed([100, 1, 300, 0, 64, 35]), form="packed", starts=(0, 100, 101, 401, 401, 465, 500)
)

CASES: dict[str, tuple[Masked, dict[str, int | str]]] = {
    "whole": (Masked(mask=np.ones((1, 1, 128, 128), bool)), ONE),
    "frames": (FRAMES, {}),
    "frames_one": (FRAMES, ONE),
    "frames_three": (replace(FRAMES, width=128), THREE),
    "frames_wide": (FRAMES, WIDE),
    "blocks_with_empty_rows": (BLOCKS, {}),
    "blocks_one": (BLOCKS, ONE),
    "blocks_three": (BLOCKS, THREE),
    "planes": (Masked(mask=blocks(300, 400, planes=(2, 3)), batch=2, heads=3), WIDE),
    "tiles_of_the_call": (replace(FRAMES, known=False), {}),
    "packed": (Masked(mask=packed([100, 1, 300, 64, 35]), dtype="bfloat16", width=128), {}),
    "sliding_many": (Masked(mask=sliding(2000, 100), heads=24, batch=2), KEPT | WIDE),
    "frames_many": (replace(FRAMES, heads=40, batch=2, width=128), KEPT | THREE),
    "width_72": (replace(FRAMES, width=72), {}),
    "width_80": (replace(FRAMES, width=80), {}),
    "width_96": (replace(FRAMES, width=96), NARROW),
    "width_256": (replace(FRAMES, width=256), {"warpgroups": 2, "key_tile": 64}),
    "width_512": (replace(FRAMES, width=512), VERY_WIDE),
    "width_512_split": (
        replace(FRAMES, width=512, heads=1),
        VERY_WIDE | {"warpgroups": 1, "turns": "free", "splits": 2},
    ),
    "tree": (TREE, {}),
    "tree_three": (
        replace(TREE, mask=tree(150, 1000), width=128, dtype="bfloat16"),
        THREE | {"order": "by_head"},
    ),
    "tree_of_groups": (Masked(mask=tree(50, 1000), form="bool", heads=8, kv_heads=2, batch=2), {}),
    "tree_split": (
        Masked(mask=tree(50, 1900), form="bool", heads=8, kv_heads=2, width=128),
        {"splits": 6, "launches": "early"},
    ),
    "tree_split_wide": (
        Masked(mask=tree(200, 3000), form="bool", heads=4, kv_heads=2, dtype="bfloat16"),
        WIDE | {"splits": 4},
    ),
    "frames_split": (FRAMES, NARROW | {"splits": 3, "launches": "early"}),
    "blocks_split": (BLOCKS, NARROW | {"splits": 4}),
    "added_of_groups": (
        Masked(mask=blocks(70, 900, planes=(1, 4)), form="float", heads=4, kv_heads=2),
        NARROW | {"splits": 2},
    ),
    "causal_of_groups": (
        Masked(
            mask=np.ones((1, 1, 90, 500), bool),
            form="bool",
            heads=6,
            kv_heads=2,
            attrs={"causal": True, "offset": 410},
        ),
        {},
    ),
    "bool_of_heads": (Masked(mask=blocks(130, 333, planes=(2, 2)), form="bool", batch=2), WIDE),
    "packed_of_the_call": (PACKED, {"launches": "early"}),
    "packed_causal": (
        replace(PACKED, attrs={"causal": True}, width=128, dtype="bfloat16"),
        THREE | {"order": "by_head"},
    ),
    "lengths_alone": (
        Masked(mask=np.ones((1, 1, 300, 500), bool), form="none", batch=3, lengths=True),
        WIDE,
    ),
    "softcap_alone": (
        Masked(mask=np.ones((1, 1, 100, 300), bool), form="none", attrs={"softcap": 3.0}),
        {},
    ),
    "plain_split": (
        Masked(
            mask=np.ones((1, 1, 100, 3000), bool),
            form="none",
            heads=8,
            kv_heads=2,
            attrs={"causal": True, "offset": 2900},
        ),
        {"splits": 4},
    ),
    "window_of_groups": (
        Masked(
            mask=np.ones((1, 1, 90, 500), bool),
            form="none",
            heads=6,
            kv_heads=2,
            batch=2,
            lengths=True,
            attrs={"causal": True, "at_end": True, "window_left": 200},
        ),
        NARROW | {"splits": 2},
    ),
    "keys_alone": (
        Masked(mask=blocks(64, 333, planes=(2, 1))[:, :, :1], form="bool", batch=2, queries=200),
        {},
    ),
    "lengths": (
        Masked(
            mask=np.ones((1, 1, 100, 500), bool),
            form="bool",
            batch=3,
            lengths=True,
            attrs={"causal": True, "at_end": True, "softcap": 5.0},
        ),
        {},
    ),
    "added": (ADDED, NARROW),
    "added_wide": (ADDED, {}),
    "added_bfloat16": (replace(ADDED, dtype="bfloat16", mask_dtype="bfloat16", width=128), NARROW),
    "added_float32": (replace(ADDED, mask_dtype="float32"), ONE),
    "added_least": (
        replace(ADDED, mask_dtype="float32", hidden=float(np.finfo(np.float32).min)),
        NARROW,
    ),
    "added_least_split": (
        Masked(
            mask=blocks(300, 700),
            form="float",
            dtype="bfloat16",
            mask_dtype="bfloat16",
            hidden=float(finfo("bfloat16").min),
        ),
        NARROW | {"splits": 4},
    ),
    "added_large": (replace(ADDED, mask_dtype="float32", hidden=-1e9, width=72), NARROW),
    "added_odd": (Masked(mask=blocks(200, 333, planes=(1, 2)), form="float"), NARROW),
    "added_window": (replace(ADDED, attrs={"window_left": 50, "window_right": 70}), NARROW),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CASES)
def test_right(name: str, tmp_path: Path) -> None:
    case, changed = CASES[name]
    target = detect_target("cuda")
    if target.arch != "sm_90":
        pytest.skip(f"needs sm_90, found {target.arch}")
    space, inputs = MaskedAttentionSpace(case.task(target)), case.inputs(seed=3)
    found = launch(space, MASKED_POINT | changed, inputs, tmp_path)
    (wanted,) = reference(case.workload(), inputs)
    error = np.abs(wanted.known(found) - wanted.values)
    wrong = ~(error <= TOLERANCE[case.dtype])
    assert not wrong.any(), (
        f"{int(wrong.sum())} of {error.size} elements are wrong, the worst by {np.nanmax(error)}, "
        f"the first at {np.argwhere(wrong)[0]}"
    )

"""Device code of masks on a CPU: the same blocks and pairs whatever the schedule."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.dtypes import numpy_dtype
from schedules.mask_tiles import mask_tiles
from schedules.masked_attention import MaskedAttentionSpace
from schedules.masked_attention_cuda import INDEX, PARTIAL, PATTERNS, launches, partial_floats
from schedules.masked_problem import MaskedProblem, masked_problem
from schedules.references.attention import reference
from tests.schedules.attention_points import MASKED_POINT
from tests.schedules.cuda_emulation import emulate
from tests.schedules.host_library import FUSED
from tests.schedules.mask_emulation import attended_pairs, found_blocks
from tests.schedules.masked_workloads import Masked, blocks, frames, packed, sliding, tree

POINT = MASKED_POINT | {"turns": "free", "products": "in_turn"}
TREE = Masked(mask=tree(50, 200), form="bool", heads=4, kv_heads=2)


def problem_of(case: Masked) -> MaskedProblem:
    problem = masked_problem(case.workload())
    assert problem is not None
    return problem


def pairs_of(case: Masked) -> np.ndarray:
    """The mask for every head; (heads, queries, keys)."""
    n_queries, n_keys = case.queries or case.mask.shape[2], case.mask.shape[3]
    shape = (case.batch, case.heads, n_queries, n_keys)
    return np.asarray(np.broadcast_to(case.mask, shape).reshape(-1, n_queries, n_keys))


@pytest.mark.parametrize(
    ("case", "changed"),
    [
        (Masked(mask=frames([100, 70, 130])), {"warpgroups": 3, "key_tile": 64}),
        (Masked(mask=frames([100, 70, 130])), {"order": "longest_first", "key_tile": 192}),
        (Masked(mask=sliding(300, 20)), {"splits": 2, "key_tile": 64}),
        (Masked(mask=blocks(200, 2300)), {"warpgroups": 1, "key_tile": 64}),
        (Masked(mask=blocks(130, 200, planes=(2, 2)), batch=2), {"key_tile": 256}),
        (Masked(mask=blocks(64, 150, planes=(2, 1))[:, :, :1], batch=2, queries=140), {}),
    ],
    ids=["three", "sorted", "splits", "many_keys", "planes", "keys_alone"],
)
def test_tiles_attend_every_pair_once_and_load_no_empty_block(
    case: Masked, changed: dict[str, int | str], tmp_path: Path
) -> None:
    space, tiles = MaskedAttentionSpace(case.task()), mask_tiles(case.mask)
    schedule = space.schedule(POINT | changed)
    held = (tiles.index, tiles.patterns)
    seen, loads = attended_pairs(space._masked, schedule, held, tmp_path)
    np.testing.assert_array_equal(seen, pairs_of(case))
    for head, rows in enumerate(pairs_of(case)):
        starts = np.arange(0, rows.shape[0], schedule.query_tile)
        live = np.logical_or.reduceat(rows, starts, axis=0)
        live = np.logical_or.reduceat(live, np.arange(0, live.shape[1], 64), axis=1)
        np.testing.assert_array_equal(loads[head], live.sum(axis=1))


@pytest.mark.parametrize(
    "case",
    [
        replace(TREE, mask=blocks(50, 200, planes=(1, 4))),
        Masked(mask=blocks(300, 130, planes=(2, 1)), form="bool", batch=2),
        Masked(mask=blocks(64, 150, planes=(2, 1))[:, :, :1], form="bool", batch=2, queries=140),
    ],
    ids=["groups", "planes", "keys_alone"],
)
def test_blocks_found_with_the_call_are_those_of_the_mask(case: Masked, tmp_path: Path) -> None:
    problem, schedule = problem_of(case), MaskedAttentionSpace(case.task()).schedule(POINT)
    held = found_blocks(problem, tmp_path, mask=np.ascontiguousarray(case.mask))
    seen, _ = attended_pairs(problem, schedule, held, tmp_path)
    np.testing.assert_array_equal(seen.reshape(pairs_of(case).shape), pairs_of(case))
    if problem.group == 1:
        wanted = mask_tiles(case.mask)
        np.testing.assert_array_equal(np.minimum(held[0], 2), np.minimum(wanted.index, 2))


@pytest.mark.parametrize(("kv_heads", "form"), [(2, "bool"), (4, "none")])
def test_lengths_and_windows_become_blocks(kv_heads: int, form: Any, tmp_path: Path) -> None:
    case = Masked(
        mask=np.ones((1, 1, 70, 260), bool),
        form=form,
        heads=4,
        kv_heads=kv_heads,
        batch=2,
        lengths=True,
        attrs={"causal": True, "at_end": True, "window_left": 90},
    )
    problem, schedule = problem_of(case), MaskedAttentionSpace(case.task()).schedule(POINT)
    lengths = np.array([85, 260], np.int32)
    given = case.mask if form == "bool" else None
    held = found_blocks(problem, tmp_path, mask=given, lengths=lengths)
    seen, _ = attended_pairs(problem, schedule, held, tmp_path)
    key = np.arange(260)
    position = np.arange(70)[None, :, None] + lengths[:, None, None] - 70
    wanted = (key <= position) & (key >= position - 90) & (key < lengths[:, None, None])
    np.testing.assert_array_equal(seen.reshape(2, 4, 70, 260), wanted[:, None].repeat(4, axis=1))


def test_packed_sequences_see_themselves_alone(tmp_path: Path) -> None:
    lengths = [100, 3, 0, 150, 17]
    starts = tuple(int(x) for x in np.cumsum([0, *lengths]))
    mask = packed(lengths)
    case = Masked(mask=mask, form="packed", starts=starts, attrs={"causal": True})
    problem, schedule = problem_of(case), MaskedAttentionSpace(case.task()).schedule(POINT)
    held = found_blocks(problem, tmp_path, starts=np.array(starts, np.int32))
    seen, _ = attended_pairs(problem, schedule, held, tmp_path)
    np.testing.assert_array_equal(seen, np.broadcast_to(np.tril(mask)[0], seen.shape))


slow = pytest.mark.slow
ONE: dict[str, int | str] = {"warpgroups": 1, "key_tile": 64, "stages": 1, "turns": "free"}
ADDED = Masked(mask=blocks(70, 190), form="float", heads=1, mask_dtype="float32", width=72)


@pytest.mark.timeout(60)
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize(
    ("case", "changed"),
    [
        (replace(ADDED, hidden=float(np.finfo(np.float32).min)), {"splits": 2}),
        pytest.param(replace(ADDED, hidden=-1e9), {"products": "overlapped"}, marks=slow),
        pytest.param(replace(ADDED, mask_dtype="float16", hidden=-65504.0), {}, marks=slow),
    ],
    ids=["least_in_splits", "large", "least_float16"],
)
def test_numbers_hide_keys_from_rows_with_higher_scores_alone(
    case: Masked, changed: dict[str, int | str], tmp_path: Path
) -> None:
    """The last six rows have the hiding number everywhere."""
    space, workload, inputs = MaskedAttentionSpace(case.task()), case.workload(), case.inputs(0)
    problem, schedule = space._masked, space.schedule(POINT | ONE | changed)
    held = found_blocks(problem, tmp_path, mask=np.ascontiguousarray(inputs[3]))
    (out,) = workload.outputs
    arrays = {spec.name: one for spec, one in zip(workload.inputs, inputs, strict=True)}
    arrays |= dict(zip((INDEX, PATTERNS), held, strict=True))
    arrays[out.name] = np.full(out.shape, np.nan, numpy_dtype(out.dtype))
    arrays[PARTIAL] = np.full(partial_floats(problem, schedule), np.nan, np.float32)
    assert emulate(launches(problem, schedule)[1:], arrays, tmp_path, *FUSED) == 0
    (wanted,) = reference(workload, inputs)
    np.testing.assert_allclose(arrays[out.name].astype(float), wanted.values, atol=3e-3)

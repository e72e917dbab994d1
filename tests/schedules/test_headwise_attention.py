"""Head-wise arrow attention without a GPU: its mask, its reference, its tiles, its front end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effcompile.errors import BadModel
from effcompile.extract import extract_tasks
from effcompile.frontend.checking import prepare_model
from effcompile.lower import lower
from schedules.attention_hopper import shared_bytes
from schedules.headwise_attention import (
    HeadwiseSpace,
    arrow_steps,
    headwise_space,
    plan_bytes,
)
from schedules.headwise_problem import ARROW, FULL
from schedules.inputs import make_inputs
from schedules.program_reference import run_program
from schedules.references.headwise_attention import allowed, reference
from schedules.spaces import spaces_for
from tests.effcompile.lowered_models import lowered, run_lowered
from tests.schedules.attention_points import HEADWISE_POINT
from tests.schedules.headwise_emulation import walk
from tests.schedules.headwise_workloads import MIXED, Headwise
from tests.schedules.test_attention import FEW_SPILLS, H200, build

GOLDEN = Headwise(image=512, text=64, modes=((ARROW, 64),))
RAGGED = Headwise(image=500, text=77, modes=((ARROW, 64),))
POINT = HEADWISE_POINT | {"blocks": "persistent"}


def visited(case: Headwise) -> np.ndarray:
    """Which blocks of 64 keys rows see, and that they see whole blocks; (blocks, blocks)."""
    n_tokens = case.image + case.text
    mask = allowed(case.task().workload, np.array(case.modes[0]), np.arange(n_tokens))
    starts = np.arange(0, n_tokens, 64)
    some = np.logical_or.reduceat(np.logical_or.reduceat(mask, starts, 0), starts, 1)
    every = np.logical_and.reduceat(np.logical_and.reduceat(mask, starts, 0), starts, 1)
    np.testing.assert_array_equal(some, every)
    return np.asarray(some)


@pytest.mark.parametrize("text_first", [False, True])
def test_an_arrow_is_39_of_81_blocks(text_first: bool) -> None:
    blocks = visited(replace(GOLDEN, text_first=text_first))
    assert blocks.sum() == 39
    if not text_first:
        rows = [set(np.flatnonzero(row)) for row in blocks]
        assert rows[0] == {0, 1, 8} and rows[7] == {6, 7, 8} and rows[8] == set(range(9))
        assert all(rows[m] == {m - 1, m, m + 1, 8} for m in range(1, 7))


def test_mixed_blocks_are_text() -> None:
    blocks = visited(RAGGED)
    assert blocks.sum() == 70 and blocks[:, 7:].all() and blocks[7:].all()


@pytest.mark.parametrize(
    ("half_width", "wanted"), [(0, 8 + 8 + 9), (512, 81), (65, 8 + 2 * 7 + 2 * 6 + 8 + 9)]
)
def test_widths_count_in_whole_blocks(half_width: int, wanted: int) -> None:
    assert visited(replace(GOLDEN, modes=((ARROW, half_width),))).sum() == wanted


def test_sparsity_of_the_published_shape() -> None:
    """Rows of 4096 image and 333 text tokens at an eighth: the share of pairs that is kept."""
    problem = HeadwiseSpace(Headwise(image=4096, text=333, modes=((ARROW, 256),)).task())._headwise
    mask = allowed(
        Headwise(image=4096, text=333, modes=((ARROW, 256),)).task().workload,
        np.array([ARROW, 256]),
        np.arange(4429),
    )
    assert problem.pairs == mask.sum()
    assert 0.2485 < problem.pairs / 4429**2 < 0.290


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("text_first", [False, True])
def test_the_reference_is_what_the_program_says(text_first: bool, cached: bool) -> None:
    case = Headwise(
        image=150,
        text=40,
        modes=MIXED,
        kv_heads=3,
        batch=2,
        width=8,
        dtype="float32",
        text_first=text_first,
        cached=cached,
    )
    workload = case.task().workload
    inputs = make_inputs(workload, seed=0)
    np.testing.assert_array_equal(inputs[3], MIXED)
    (found,) = reference(workload, inputs)
    (wanted,) = run_program(workload, inputs)
    np.testing.assert_allclose(found.values, wanted, rtol=1e-5, atol=1e-6)
    skipped = inputs[4][:, 2] if cached else 0
    assert (found.values[:, 2] == skipped).all()


def test_full_heads_are_plain_attention() -> None:
    case = Headwise(image=70, text=20, modes=((FULL, 0), (ARROW, 90)), width=8, dtype="float32")
    inputs = make_inputs(case.task().workload, seed=0)
    (found,) = reference(case.task().workload, inputs)
    query, key, value = (x.astype(np.float64) for x in inputs[:3])
    weights = np.exp(query @ key.swapaxes(2, 3) * 8**-0.5)
    np.testing.assert_allclose(
        found.values, weights @ value / weights.sum(-1, keepdims=True), rtol=1e-9
    )


@pytest.mark.parametrize("known", [True, False])
def test_a_cpu_computes_the_same(known: bool) -> None:
    case = Headwise(
        image=100, text=30, modes=MIXED, width=16, dtype="float32", cached=True, known=known
    )
    workload = replace(case, known=True).task().workload
    inputs = make_inputs(workload, seed=1)
    given = [*inputs[:3], inputs[4]] if known else inputs
    (found,) = run_lowered(lowered(case.model()), given)
    (wanted,) = reference(workload, inputs)
    np.testing.assert_allclose(found, wanted.values, rtol=1e-4, atol=1e-5)


def test_a_torch_module_reaches_the_family() -> None:
    import torch

    from effcompile.export import export_module
    from examples.arrow_attention import ArrowAttention

    layer = ArrowAttention(list(MIXED), text_tokens=77)
    tokens = tuple(torch.randn(1, len(MIXED), 333, 64, dtype=torch.float16) for _ in range(3))
    program = lower({"main": prepare_model(export_module(layer, tokens))}, H200)
    (found,) = extract_tasks(program, H200)
    workload = found.task.workload
    assert spaces_for(found.task)[0] == "headwise_attention"
    assert workload.attrs["modes"] == "1:128 0:0 2:0 1:0 1:70 1:10000"
    arrays = [*(x.numpy() for x in tokens), layer.modes.numpy()]
    (wanted,) = reference(workload, arrays)
    np.testing.assert_allclose(layer(*tokens).numpy(), wanted.values, atol=2e-3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"order": "sideways"}, "order is 'sideways'"),
        ({"text_tokens": 1000}, "text_tokens is 1000"),
        ({"granularity": 128}, "only 64"),
        ({"scale": -1.0}, "positive"),
    ],
)
def test_bad_attributes_are_refused(changed: dict[str, Any], message: str) -> None:
    from onnx import helper

    model = GOLDEN.model()
    (node,) = model.graph.node
    kept = [one for one in node.attribute if one.name not in changed]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(helper.make_attribute(*one) for one in changed.items())
    with pytest.raises(BadModel, match=message):
        lowered(model)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(BadModel, match="expected kind 0"):
        lowered(replace(GOLDEN, modes=((3, 64),)).model())


@pytest.mark.parametrize("cluster", [1, 2])
@pytest.mark.parametrize("text_first", [False, True])
@pytest.mark.parametrize(
    ("tokens", "tile"),
    [
        ((500, 77), (2, 176)),
        ((512, 64), (3, 80)),
        ((450, 13), (1, 128)),
        ((700, 0), (2, 96)),
        ((90, 300), (3, 64)),
    ],
)
def test_tiles_and_masks_attend_every_pair_once(
    tokens: tuple[int, int], tile: tuple[int, int], text_first: bool, cluster: int, tmp_path: Path
) -> None:
    image, text = tokens
    case = Headwise(image=image, text=text, modes=MIXED, batch=2, text_first=text_first)
    task = case.task()
    space = HeadwiseSpace(task)
    groups, key_tile = tile
    values = POINT | {"warpgroups": groups, "key_tile": key_tile, "cluster": cluster}
    seen, stored, steps = walk(space, values, 7 * cluster, tmp_path)
    assert (stored == 1).all()
    rows = np.arange(image + text)
    for head, mode in enumerate(2 * MIXED):
        wanted = allowed(task.workload, np.array(mode), rows)
        np.testing.assert_array_equal(seen[head], wanted, err_msg=f"head {head} {mode}")
    counted = arrow_steps(space._headwise, space.schedule(values))
    assert steps.sum() == 2 * counted.sum()


@pytest.mark.parametrize("n_blocks", [1, 60, 200])
def test_any_number_of_blocks_does_all_rows(n_blocks: int, tmp_path: Path) -> None:
    space = HeadwiseSpace(Headwise(image=500, text=77, modes=MIXED).task())
    seen, stored, _ = walk(space, POINT, n_blocks, tmp_path)
    assert (stored == 1).all() and seen.max() == 1


def test_blocks_get_equal_work(tmp_path: Path) -> None:
    modes = (*((ARROW, 128),) * 18, *((FULL, 0),) * 3, *((ARROW, 64),) * 3)
    space = HeadwiseSpace(Headwise(image=2048, text=333, modes=modes).task())
    values = POINT | {"warpgroups": 2, "key_tile": 96}
    _, _, steps = walk(space, values, 40, tmp_path)
    longest_tile = int(arrow_steps(space._headwise, space.schedule(values))[0, 0])
    assert steps.max() - steps.mean() <= 3 * longest_tile, steps


def test_clusters_are_for_blocks_that_take_several_tiles() -> None:
    space = HeadwiseSpace(Headwise(image=4096, text=512, modes=((ARROW, 256),), heads=24).task())
    assert space.refusal(POINT | {"cluster": 2}) is None
    refused = space.refusal(POINT | {"cluster": 2, "blocks": "per_tile"})
    assert refused == "clusters are for blocks that take several tiles"


def test_a_cluster_takes_no_more_steps_where_key_tiles_fit() -> None:
    space = HeadwiseSpace(Headwise(image=4096, text=512, modes=((ARROW, 256),), heads=24).task())
    one, two = (
        arrow_steps(space._headwise, space.schedule(POINT | {"warpgroups": 2, "cluster": cluster}))
        for cluster in (1, 2)
    )
    inner = slice(8, 24)
    np.testing.assert_array_equal(one[:, inner], two[:, inner])


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("width", [64, 128])
def test_points_build_and_can_launch(width: int, known: bool, tmp_path: Path) -> None:
    case = Headwise(image=2000, text=333, modes=MIXED, width=width, cached=known, known=known)
    space = headwise_space(case.task())
    assert isinstance(space, HeadwiseSpace)
    for candidate in space.sample(2, np.random.default_rng(0)):
        values = space.values_of(candidate)
        kernel = build(space, values, tmp_path)
        schedule = space.schedule(values)
        plan = plan_bytes(space._headwise)
        wanted = shared_bytes(space._problem, schedule, plan_bytes=plan)
        assert kernel.spill_bytes <= FEW_SPILLS, values
        assert kernel.dynamic_shared_bytes == wanted <= H200.shared_memory_per_block_bytes

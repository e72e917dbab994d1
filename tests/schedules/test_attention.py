"""The attention family without a GPU: what it covers, what it builds, what is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from effcompile.bench.single_ops import attention_model
from effcompile.extract import extract_tasks
from effcompile.frontend.checking import prepare_model
from effcompile.lower import lower
from schedules import expected
from schedules.attention import HopperAttentionSpace, attention_space
from schedules.attention_hopper import REGISTERS
from schedules.defaults import DefaultSpace, intermediate_bytes
from schedules.inputs import make_inputs
from schedules.program_reference import run_program
from schedules.references.attention import reference
from schedules.spaces import MOST_INTERMEDIATE_BYTES, open_space, spaces_for
from schedules.target import Target, known_target
from schedules.task import Task
from schedules.workload import Workload
from tests.effcompile.lowered_models import graph_model
from tests.schedules.building import built

H200 = known_target("h200")
SMALL = [1, 4, 96, 64]
# The largest tiles keep a few addresses outside registers.
FEW_SPILLS = 16


def task_of(model: Any, target: Target = H200) -> Task:
    (found,) = extract_tasks(lower({"main": prepare_model(model)}, target), target)
    return found.task


def space_of(query: list[int], key: list[int], *, causal: bool = False) -> HopperAttentionSpace:
    space = attention_space(task_of(attention_model(query, key, "float16", causal=causal)))
    assert isinstance(space, HopperAttentionSpace)
    return space


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_onnx_attention_is_tuned_by_the_family(dtype: str) -> None:
    task = task_of(attention_model(SMALL, SMALL, dtype, causal=True))
    assert spaces_for(task)[0] == "attention"


@pytest.mark.parametrize(
    ("shape", "dtype", "device"),
    [
        ([1, 2, 32, 64], "float32", "h200"),
        ([1, 2, 32, 64], "float16", "a100"),
        ([1, 2, 32, 20], "float16", "h200"),
        ([1, 2, 32, 264], "float16", "h200"),
    ],
    ids=["float32", "no_hopper", "odd_pitch", "too_wide"],
)
def test_what_is_not_covered_is_left_to_tvm(shape: list[int], dtype: str, device: str) -> None:
    model = attention_model(shape, shape, dtype, causal=False)
    assert attention_space(task_of(model, known_target(device))) is None


def build(space: HopperAttentionSpace, values: Any, folder: Path) -> Any:
    made = built(space.program_module(values), H200, folder)
    (kernel,) = made.stats.kernels
    return kernel


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "key", "causal"),
    [
        ([1, 24, 4429, 64], [1, 24, 4429, 64], False),
        ([1, 32, 2000, 128], [1, 8, 2000, 128], True),
        ([2, 4, 700, 72], [2, 4, 700, 72], False),
    ],
    ids=["width_64", "causal_128", "width_72"],
)
def test_points_build_and_can_launch(
    query: list[int], key: list[int], causal: bool, tmp_path: Path
) -> None:
    space = space_of(query, key, causal=causal)
    for candidate in space.sample(4, np.random.default_rng(0)):
        values = space.values_of(candidate)
        kernel = build(space, values, tmp_path)
        assert kernel.spill_bytes <= FEW_SPILLS, values
        assert kernel.dynamic_shared_bytes <= H200.shared_memory_per_block_bytes
        producer, consumer = REGISTERS[int(values["warpgroups"])]
        n_threads = kernel.block[0]
        wanted = 128 * producer + (n_threads - 128) * consumer
        assert kernel.registers_per_thread * n_threads >= wanted, "consumers would wait for ever"


@pytest.mark.slow
def test_the_points_that_should_win_do_not_spill(tmp_path: Path) -> None:
    values = {
        "stages": 2,
        "turns": "pingpong",
        "products": "overlapped",
        "blocks": "persistent",
        "order": "by_head",
    }
    wide, narrow = [1, 24, 16896, 128], [1, 24, 4429, 64]
    for shape, groups, key_tile in ((wide, 2, 128), (wide, 2, 176), (narrow, 3, 128)):
        point = {"warpgroups": groups, "key_tile": key_tile, **values}
        kernel = build(space_of(shape, shape), point, tmp_path)
        assert kernel.spill_bytes == 0, point


def test_features_and_points_agree() -> None:
    space = space_of([1, 8, 1000, 64], [1, 8, 1000, 64], causal=True)
    rows = space.features(space.sample(20, np.random.default_rng(0)))
    assert rows.shape[0] == 20 and np.isfinite(rows).all()
    assert len(space.points) > 100


def test_few_queries_leave_no_consumer_idle() -> None:
    space = space_of([1, 8, 40, 64], [1, 8, 500, 64])
    assert {point["warpgroups"] for point in space.points} == {1}


RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"is_causal": 1},
    "softcap": {"softcap": 2.0},
    "grouped": {"kv_heads": 2},
    "mask": {"mask": np.linspace(-3, 3, 9 * 11, dtype=np.float32).reshape(9, 11)},
    "bool_mask": {"mask": np.arange(2 * 9 * 11).reshape(2, 1, 9, 11) % 3 > 0},
}


@pytest.mark.parametrize("rule", RULES)
def test_the_reference_is_what_the_program_says(rule: str) -> None:
    attrs = dict(RULES[rule])
    mask, kv_heads = attrs.pop("mask", None), attrs.pop("kv_heads", 4)
    rng = np.random.default_rng(0)
    inputs: dict[str, np.ndarray] = {
        "q": rng.standard_normal((2, 4, 9, 8)).astype(np.float32),
        "k": rng.standard_normal((2, kv_heads, 11, 8)).astype(np.float32),
        "v": rng.standard_normal((2, kv_heads, 11, 6)).astype(np.float32),
    }
    if mask is not None:
        inputs["mask"] = mask
    node = helper.make_node("Attention", list(inputs), ["y"], name="attention", **attrs)
    workload = task_of(graph_model([node], inputs, ["y"])).workload
    arrays = [inputs[key] for key in ("q", "k", "v", "mask") if key in inputs]
    if mask is not None:
        arrays[3] = np.ascontiguousarray(mask).reshape(workload.inputs[3].shape)
    (found,) = reference(workload, arrays)
    (wanted,) = run_program(workload, arrays)
    np.testing.assert_allclose(found.values, wanted, rtol=1e-6, atol=1e-7)


def test_a_sampled_reference_has_the_rows_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    workload: Workload = task_of(attention_model(SMALL, SMALL, "float16", causal=True)).workload
    inputs = make_inputs(workload, seed=0)
    (whole,) = reference(workload, inputs)
    monkeypatch.setattr(expected, "MOST_FLOPS", 1e5)
    (sample,) = reference(workload, inputs)
    assert sample.rows is not None and len(sample.rows) < 96 * 4
    np.testing.assert_allclose(sample.values, sample.known(whole.values))
    assert sample.limits[0] <= whole.values.min() and whole.values.max() <= sample.limits[1]


def test_accumulators_are_the_left_operand_of_the_next_product() -> None:
    """Scores as the first product leaves them, packed in pairs, read as the second wants them."""
    n_keys = 48
    scores = np.arange(64 * n_keys).reshape(64, n_keys)
    for thread in range(128):
        warp, lane = divmod(thread, 32)
        row, column = 16 * warp + lane // 4, lane % 4 * 2
        kept = [
            scores[row + 8 * r, 8 * j + column + e]
            for j in range(n_keys // 8)
            for r in range(2)
            for e in range(2)
        ]
        pairs = [(kept[2 * i], kept[2 * i + 1]) for i in range(n_keys // 4)]
        for step in range(n_keys // 16):
            wanted = [
                tuple(scores[row + 8 * (i % 2), 16 * step + 8 * (i // 2) + column :][:2])
                for i in range(4)
            ]
            assert pairs[4 * step : 4 * step + 4] == wanted


@pytest.mark.parametrize(("tokens", "is_large"), [(512, False), (16896, True)])
def test_scores_that_fit_no_memory_have_a_default_of_the_family(
    tokens: int, is_large: bool
) -> None:
    shape = [1, 24, tokens, 128]
    task = task_of(attention_model(shape, shape, "float16", causal=False))
    space = open_space(task, "default")
    assert isinstance(space, DefaultSpace)
    assert (intermediate_bytes(task.workload) > MOST_INTERMEDIATE_BYTES) is is_large
    text = str(space.realise(space.default()))
    assert ("attention_forward" in text) is is_large

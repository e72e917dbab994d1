"""Attention of few queries without a GPU: what is covered, drawn and built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from effcompile.bench.kernels import decode_cases, paged_decode_cases
from effcompile.extract import extract_tasks
from effcompile.frontend.checking import prepare_model
from effcompile.lower import lower
from schedules.attention_decode import (
    AttentionDecodeSpace,
    attention_decode_space,
)
from schedules.judged_space import FEWEST_DRAWN
from schedules.spaces import spaces_for
from schedules.target import Target, known_target
from schedules.task import Task
from tests.effcompile.lowered_models import graph_model
from tests.schedules.decode_workloads import Decode
from tests.schedules.products import built_point

H200, A100 = known_target("h200"), known_target("a100")
GROUPED = Decode(heads=40, kv_heads=10, keys=32768, width=64)


def space_of(shape: Decode, target: Target = H200) -> AttentionDecodeSpace | None:
    space = attention_decode_space(Task(workload=shape.workload(), target=target))
    assert space is None or isinstance(space, AttentionDecodeSpace)
    return space


CASES = [*decode_cases.cases(), *paged_decode_cases.cases()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_onnx_attention_of_few_queries_is_tuned_by_the_family(case: Any) -> None:
    found = extract_tasks(lower({"main": prepare_model(case.model())}, H200), H200)
    tasks = [one.task for one in found if one.task.workload.op.endswith("attention")]
    assert [spaces_for(task)[0] for task in tasks] == ["attention_decode"]


def test_grouped_heads_with_a_cache_are_tuned_by_the_family() -> None:
    """GroupQueryAttention of one new token after a cache with valid lengths."""
    node = helper.make_node(
        "GroupQueryAttention",
        ["q", "k", "v", "past_k", "past_v", "last", "total"],
        ["y", "new_k", "new_v"],
        num_heads=8,
        kv_num_heads=2,
        domain="com.microsoft",
    )
    shapes = {"q": (2, 1, 512), "k": (2, 1, 128), "v": (2, 1, 128)}
    shapes |= dict.fromkeys(("past_k", "past_v"), (2, 2, 511, 64))
    inputs = {name: np.zeros(shape, np.float16) for name, shape in shapes.items()}
    inputs |= {"last": np.zeros(2, np.int32), "total": np.zeros(1, np.int32)}
    half = dict.fromkeys(node.output, TensorProto.FLOAT16)
    model = graph_model([node], inputs, list(node.output), output_types=half)
    found = extract_tasks(lower({"main": prepare_model(model)}, H200), H200)
    (task,) = [one.task for one in found if one.task.workload.op == "attention"]
    assert task.workload.attrs["lengths"] is True
    assert spaces_for(task)[0] == "attention_decode"


@pytest.mark.parametrize(
    ("shape", "is_covered"),
    [
        (replace(GROUPED, dtype="float32"), False),
        (replace(GROUPED, width=20), False),
        (replace(GROUPED, width=264), False),
        (replace(GROUPED, queries=33), False),
        (replace(GROUPED, queries=32), True),
        (replace(GROUPED, heads=10, queries=33), False),
        (replace(GROUPED, lengths="int16"), False),
        (replace(GROUPED, lengths="int64", causal=True, at_end=True), True),
        (replace(GROUPED, lengths="int32", page=256), True),
        (replace(GROUPED, lengths="int32", page=8), False),
    ],
    ids=[
        *("float32", "pitch", "width", "rows", "most_rows", "queries", "lengths", "cache"),
        *("pages", "short_pages"),
    ],
)
def test_what_the_family_covers(shape: Decode, is_covered: bool) -> None:
    assert (space_of(shape) is not None) == is_covered


def test_other_targets_are_left_alone(cpu: Target) -> None:
    assert space_of(GROUPED, cpu) is None
    assert space_of(GROUPED, replace(H200, arch="sm_75")) is None
    assert space_of(GROUPED, known_target("a100")) is not None


def test_splits_fill_every_multiprocessor_with_whole_blocks() -> None:
    space = space_of(GROUPED)
    assert space is not None
    splits = space.knobs[0].values
    # 132 multiprocessors, 10 key heads: a half, 1 and 2 blocks on each; clusters.
    assert splits == (1, 6, 8, 13, 16, 26)


def test_few_points_are_drawn_and_the_fast_ones_are_among_them() -> None:
    """Points that an H200 took 22.8, 23.1, 28.4 and 30.6 microseconds for (22.8 was the least)."""
    space = space_of(GROUPED)
    assert space is not None
    clusters = {"splits": 8, "warps": 2, "tiles": 4, "combine": "cluster"}
    assert point(**clusters) in space.points
    assert point() in space.points
    assert point(release="late") not in space.points
    assert point(splits=6, warps=2, in_flight=6) not in space.points
    assert all(space.refusal(one) is None for one in space.points)
    assert FEWEST_DRAWN <= len(space.points) <= 1.5 * FEWEST_DRAWN


def test_patience_draws_slower_points() -> None:
    task = Task(workload=GROUPED.workload(), target=H200)
    every = AttentionDecodeSpace(task, patience=1e9)
    assert point(release="late") in every.points
    assert len(every.points) == sum(1 for _ in every._legal())


def point(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"splits": 13, "warps": 4, "tiles": 2, "in_flight": 3, "rows": 8}
    plain |= {"combine": "last_block", "release": "at_once"}
    return plain | changes


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"splits": 1, "combine": "cluster"}, "nothing is to be combined"),
        ({"splits": 52, "warps": 16, "in_flight": 3}, "more steps would be in flight"),
        ({"splits": 39, "release": "late"}, "blocks of a group would wait"),
        ({"splits": 26}, "no block of the kernel behind fits"),
        ({"splits": 26, "combine": "cluster"}, "a cluster holds 16 blocks"),
        ({"tiles": 1, "in_flight": 1}, "memory would be idle"),
        ({"warps": 8, "in_flight": 4, "release": "late"}, "bytes of shared memory"),
    ],
)
def test_points_that_cannot_be_good_are_refused(changes: dict[str, Any], reason: str) -> None:
    space = space_of(GROUPED)
    assert space is not None
    assert space.refusal(point()) is None
    assert reason in str(space.refusal(point(**changes)))


def test_steps_and_pages_fit_into_each_other() -> None:
    space = space_of(replace(GROUPED, keys=96 * 100, lengths="int32", page=96))
    assert space is not None
    assert {one["tiles"] for one in space.points} == {1, 2}


MASKED = Decode(
    heads=32,
    kv_heads=8,
    keys=8192,
    width=128,
    queries=8,
    dtype="bfloat16",
    mask=((1, 1, 8, 8192), "bool"),
    lengths="int64",
)


@pytest.mark.parametrize(
    ("device", "shape", "changes"),
    [
        ("h200", GROUPED, {}),
        (
            "h200",
            MASKED,
            {"splits": 8, "tiles": 1, "in_flight": 2, "combine": "cluster", "release": "late"},
        ),
        ("a100", MASKED, {"splits": 3, "tiles": 1, "release": "late"}),
    ],
    ids=["last_block", "cluster", "a100"],
)
def test_points_become_machine_code_without_spills(
    device: str, shape: Decode, changes: dict[str, Any], tmp_path: Path
) -> None:
    target = known_target(device)
    space = space_of(shape, target)
    assert space is not None
    values = point(**changes)
    assert space.refusal(values) is None
    kernels = built_point(space, values, tmp_path, target).stats.kernels
    assert [kernel.spill_bytes for kernel in kernels] == [0] * len(kernels)
    groups = shape.batch * shape.kv_heads
    assert kernels[0].grid == (values["splits"], 1 if shape is GROUPED else 4, groups)
    assert len(kernels) == 1
    estimate = space.needs(space.schedule(values)).registers
    assert 0.6 * estimate <= kernels[0].registers_per_thread <= 1.3 * estimate

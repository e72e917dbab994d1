"""The text of attention with few queries, run on this CPU: what it computes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.attention_decode import AttentionDecodeSpace
from schedules.reference import compare, references_of, tolerance_of
from schedules.target import Target, known_target
from schedules.task import Task
from tests.schedules.decode_emulation import emulate
from tests.schedules.decode_workloads import Decode, decode_inputs, spoiled

H200, A100 = known_target("h200"), known_target("a100")
MOST_THREADS = 64
PAGED = Decode(
    heads=4,
    kv_heads=1,
    keys=144,
    width=72,
    batch=3,
    queries=2,
    lengths="int32",
    causal=True,
    at_end=True,
    page=16,
    window_left=55,
    value_width=40,
)
# Workloads, each with a device and a form of the kernel.
EMULATED: dict[str, tuple[Decode, Target, dict[str, Any]]] = {
    "value_24": (
        Decode(heads=4, kv_heads=2, keys=200, width=40, value_width=24, dtype="bfloat16", batch=2),
        H200,
        {"combine": "last_block"},
    ),
    "cache": (
        Decode(
            heads=4,
            kv_heads=4,
            keys=200,
            width=128,
            batch=3,
            queries=3,
            lengths="int64",
            causal=True,
            at_end=True,
            window_left=77,
        ),
        H200,
        {"combine": "last_block", "release": "at_once"},
    ),
    "softcap": (
        Decode(
            heads=4,
            kv_heads=2,
            keys=100,
            width=64,
            queries=5,
            mask=((1, 4, 5, 100), "bfloat16"),
            softcap=4.0,
        ),
        A100,
        {"combine": "last_block"},
    ),
    "float_mask": (
        Decode(
            heads=4, kv_heads=2, keys=165, width=64, queries=5, mask=((1, 4, 5, 165), "float32")
        ),
        H200,
        {"combine": "last_block"},
    ),
    "tree": (
        Decode(
            heads=4,
            kv_heads=2,
            keys=111,
            width=64,
            batch=2,
            queries=15,
            mask=((2, 1, 15, 111), "bool"),
        ),
        H200,
        # Results are longer than the ring and its barrier, whose place they take.
        {"combine": "cluster", "rows": 16, "tiles": 2, "in_flight": 1},
    ),
    "pages": (PAGED, H200, {"combine": "last_block", "tiles": 2}),
    "pages_in_pieces": (PAGED, A100, {"combine": "last_block", "tiles": 2}),
}


def emulated_fault(name: str, folder: Path) -> str | None:
    """What is wrong with a random point of a form that shares keys among blocks."""
    shape, target, form = EMULATED[name]
    workload = shape.workload()
    space = AttentionDecodeSpace(Task(workload=workload, target=target), patience=1e9)
    points = [
        one
        for one in space.points
        if form.items() <= one.items()
        and int(one["splits"]) > 1
        and space.schedule(one).n_threads <= MOST_THREADS
    ]
    chosen = points[int(np.random.default_rng(1).integers(len(points)))]
    inputs = decode_inputs(shape)
    (reference,) = references_of(workload, inputs)
    found, outside = emulate(space, chosen, spoiled(shape, inputs), folder)
    if outside:
        return f"{chosen}: memory fault {outside}"
    fault = compare(found, reference.values, tolerance_of(workload))
    return fault and f"{chosen}: {fault}"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize("name", EMULATED)
def test_kernel_text_is_right_on_this_cpu(name: str, tmp_path: Path) -> None:
    assert emulated_fault(name, tmp_path) is None

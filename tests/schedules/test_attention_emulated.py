"""A whole attention kernel of Hopper on this CPU, producer and consumers, against float64."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from schedules.inputs import make_data
from schedules.masked_attention import MaskedAttentionSpace
from schedules.masked_attention_cuda import launches
from schedules.reference import compare, tolerance_of
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.cuda_emulation import emulate
from tests.schedules.masked_workloads import lowered_frames

PLAIN: dict[str, int | str] = {
    "warpgroups": 1,
    "key_tile": 64,
    "stages": 1,
    "turns": "free",
    "products": "in_turn",
    "blocks": "per_tile",
    "order": "by_head",
    "splits": 1,
    "launches": "in_turn",
}


@pytest.mark.timeout(120)
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_frames(tmp_path: Path) -> None:
    workload = lowered_frames([70, 37, 30], heads=1)
    space = MaskedAttentionSpace(Task(workload=workload, target=known_target("h200")))
    assert space.refusal(PLAIN) is None, space.refusal(PLAIN)
    data = make_data(workload, 0)
    names = [spec.name for spec in workload.inputs]
    arrays = dict(zip(names, map(np.ascontiguousarray, data.inputs), strict=True))
    (out,) = workload.outputs
    arrays[out.name] = np.full(out.shape, np.nan, data.inputs[0].dtype)
    made = launches(space._masked, space.schedule(PLAIN))
    assert emulate(made, arrays, tmp_path, "-O1") == 0
    wrong = compare(arrays[out.name], data.references[0].values, tolerance_of(workload))
    assert wrong is None, wrong

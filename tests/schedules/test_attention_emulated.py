"""A whole attention kernel of Hopper on this CPU, producer and consumers, against float64."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.attention_hopper import attention_launch
from schedules.cuda_kernel import CudaLaunch
from schedules.headwise_attention import HeadwiseSpace, headwise_pattern
from schedules.headwise_problem import ARROW, FULL, SKIP
from schedules.inputs import Data, make_data
from schedules.masked_attention import MaskedAttentionSpace
from schedules.masked_attention_cuda import launches
from schedules.reference import compare, tolerance_of
from schedules.target import known_target
from schedules.task import Task
from schedules.workload import Workload
from tests.schedules.cuda_emulation import emulate
from tests.schedules.headwise_workloads import Headwise
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


def outputs_of(made: list[CudaLaunch], workload: Workload, folder: Path) -> tuple[Any, Data]:
    """The result of a program on the CPU, and the data that it was given."""
    data = make_data(workload, 0)
    names = [spec.name for spec in workload.inputs]
    arrays = dict(zip(names, map(np.ascontiguousarray, data.inputs), strict=True))
    (out,) = workload.outputs
    arrays[out.name] = np.full(out.shape, np.nan, data.inputs[0].dtype)
    assert emulate(made, arrays, folder, "-O1") == 0
    return arrays[out.name], data


@pytest.mark.timeout(120)
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_frames(tmp_path: Path) -> None:
    workload = lowered_frames([70, 37, 30], heads=1)
    space = MaskedAttentionSpace(Task(workload=workload, target=known_target("h200")))
    assert space.refusal(PLAIN) is None, space.refusal(PLAIN)
    made = launches(space._masked, space.schedule(PLAIN))
    found, data = outputs_of(made, workload, tmp_path)
    wrong = compare(found, data.references[0].values, tolerance_of(workload))
    assert wrong is None, wrong


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize(
    "changed",
    [
        {"warpgroups": 2, "turns": "pingpong", "products": "overlapped"},
        {"products": "overlapped", "cluster": 2},
    ],
    ids=["two_consumers", "cluster"],
)
def test_arrows_full_and_skipped_heads_by_two_blocks(
    changed: dict[str, int | str], tmp_path: Path
) -> None:
    """Consumers go from one tile to the next each at its time, keyless tiles among them."""
    case = Headwise(image=150, text=20, modes=((ARROW, 0), (SKIP, 0), (FULL, 0)), cached=True)
    space = HeadwiseSpace(case.task())
    schedule = space.schedule(PLAIN | {"stages": 2, "cluster": 1} | changed)
    pattern = headwise_pattern(space._headwise)
    launch = attention_launch(space._problem, replace(schedule, blocks=2), pattern)
    found, data = outputs_of([launch], space._workload, tmp_path)
    wrong = compare(found, data.references[0].values, tolerance_of(space._workload))
    assert wrong is None, wrong

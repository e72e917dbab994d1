"""Marks of kernels that may start early become tags of TVM's runtime."""

from __future__ import annotations

import pytest

from schedules import _tvm
from schedules.early_launch import EARLY_LAUNCH
from schedules.gemv_dequant import GemvDequantSpace
from schedules.lowering import pipeline
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.gemv_workloads import gemv_workload

DYNAMIC_SHARED = "tirx.use_dyn_shared_memory"


def launch_tags(device: str) -> list[list[str]]:
    """The launch parameters of a product in two kernels."""
    tvm = _tvm.load()
    target = known_target(device)
    task = Task(workload=gemv_workload(1, 64, 4096, 4, 128), target=target)
    space = GemvDequantSpace(task, patience=1e9)
    # More than a cluster holds.
    point = next(one for one in space.points if one["blocks_k"] == 16)
    bound = tvm.tirx.transform.BindTarget(_tvm.tvm_target(target))(space.program_module(point))
    lowered = tvm.tirx.get_tir_pipeline(pipeline())[0](bound)
    attributes = [function.attrs for function in lowered.functions.values()]
    tags = "tirx.kernel_launch_params"
    return [[str(tag) for tag in one[tags]] for one in attributes if tags in one]


@pytest.mark.parametrize(("device", "expected"), [("h200", True), ("a100", False)])
def test_marked_kernels_are_tagged_once(device: str, expected: bool) -> None:
    found = launch_tags(device)
    assert len(found) == 2
    assert [one.count(EARLY_LAUNCH) for one in found] == [int(expected)] * 2
    assert any(one[-1] == DYNAMIC_SHARED for one in found)
    assert all(DYNAMIC_SHARED not in one[:-1] for one in found)

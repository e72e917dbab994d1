"""Chains as segments: exact on the CPU and, where there is one, on a GPU; points compile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effcompile.measure.cache import DiskCache
from effcompile.measure.libraries import LibraryMaker
from schedules.chain_segments import ChainSegmentsSpace, chain_segments_space
from schedules.defaults import DefaultSpace
from schedules.space import DesignSpace
from schedules.target import Target, known_target
from schedules.task import Task
from tests.schedules.merge_workloads import CPU, chains

H200 = known_target("h200")


@pytest.mark.parametrize("sizes", [(60, 6, 60), (67, 6, 20), (5, 9, 5), (40, 1, 30)], ids=str)
def test_default_programs_are_exact(
    sizes: tuple[int, int, int], run_on_cpu: Callable[..., Any]
) -> None:
    task = Task(workload=chains(*sizes), target=CPU)
    space: DesignSpace = DefaultSpace(task)
    (candidate,) = space.sample(1, np.random.default_rng(0))
    assert run_on_cpu(task.workload, space.realise(candidate)) is None
    assert chain_segments_space(task) is None


def test_a_point_compiles_without_spills(tmp_path: Path) -> None:
    maker = LibraryMaker(
        target=H200, cache=DiskCache(tmp_path / "cache"), folder=tmp_path, fast_math=True
    )
    space = ChainSegmentsSpace(Task(workload=chains(67, 6, 20), target=H200))
    build = maker.make(space.program_module({"threads": 1024}), flops=None, unique_bytes=None)
    assert build.stats.kernels[0].spill_bytes == 0


@pytest.mark.gpu
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "sizes", [(67, 6, 20), (5, 9, 5), (40, 1, 30), (13440, 210, 13440), (13440, 210, 4032)], ids=str
)
def test_every_point_is_exact(
    sizes: tuple[int, int, int], card: Target, run_on_gpu: Callable[..., list[str]]
) -> None:
    workload = chains(*sizes)
    space = ChainSegmentsSpace(Task(workload=workload, target=card))
    faults = run_on_gpu(workload, [space.candidate(point) for point in space.points])
    assert not faults, "\n".join(faults)

"""Estimates of packed products against what was recorded of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from effcompile.recordings import recording_paths
from schedules.gemv_dequant import GemvDequantSpace
from search.recording import RecordedTask
from search.recording_file import read_recording

# Ranks and best of the first eight over best, in the order of the recording: four bits of
# 4096 x 4096, 11008 x 4096, 4096 x 11008 and 122880 x 2560, three bits of 11008 x 4096,
# 3584 x 18944 and 3584 x 3584, four bits of 11008 x 4096 and eight rows.
REACHED = (
    (0.78, 1.02),
    (0.59, 1.01),
    (0.81, 1.01),
    (0.32, 1.01),
    (0.69, 1.01),
    (0.56, 1.04),
    (0.52, 1.01),
    (0.81, 1.01),
)
PRODUCTS = tuple(f"gemv_dequant{number or ''}" for number in range(len(REACHED)))


@pytest.fixture(scope="module")
def tasks() -> dict[str, RecordedTask]:
    (path,) = recording_paths("kernels-h200")
    return {one.task.workload.name: one for one in read_recording(path).tasks}


def estimated_and_timed(recorded: RecordedTask) -> tuple[np.ndarray, np.ndarray]:
    """Cycles and microseconds of every recorded point."""
    space = GemvDequantSpace(recorded.task)
    times = {one.binary_id: one.latency for one in recorded.binaries}
    found = []
    for one in next(s for s in recorded.spaces if s.name == "gemv_dequant").candidates:
        latency = times.get(one.binary_id)
        if latency is not None and not one.failure:
            cycles = float(space.estimate(space.values_of(one.candidate)))
            found.append((cycles, latency.latency_us))
    cycles, latencies = np.array(found).T
    return cycles, latencies


@pytest.mark.parametrize(
    ("name", "rank", "slower"),
    [(name, *reached) for name, reached in zip(PRODUCTS, REACHED, strict=True)],
)
def test_estimates_order_recorded_products_and_begin_with_fast_ones(
    name: str, rank: float, slower: float, tasks: dict[str, RecordedTask]
) -> None:
    cycles, latencies = estimated_and_timed(tasks[name])
    assert len(cycles) >= 47
    assert spearmanr(cycles, latencies).statistic > rank
    first = latencies[np.argsort(cycles, kind="stable")[:8]]
    assert first.min() <= slower * latencies.min()
    # Beside a common factor, which depends on clocks.
    assert np.std(np.log(cycles / latencies)) < 0.18

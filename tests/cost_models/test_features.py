from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from cost_models.features import FEATURE_NAMES, compiler_features, feature_columns
from schedules.stats import KernelResources, KernelStats
from schedules.target import known_target

H200 = known_target("h200")
KERNEL = KernelResources(
    name="main",
    grid=(660, 1, 1),
    block=(256, 1, 1),
    registers_per_thread=64,
    static_shared_bytes=0,
    dynamic_shared_bytes=48 * 1024,
    spill_bytes=0,
    stack_bytes=0,
)


def features(*kernels: KernelResources, latency_us: float = 8.0) -> dict[str, float]:
    stats = KernelStats(kernels=kernels, code_bytes=1023, flops=8 * 1023.0, unique_bytes=None)
    row = compiler_features(stats, latency_us=latency_us, target=H200)
    return dict(zip(FEATURE_NAMES, map(float, row), strict=True))


def test_occupancy_follows_the_tightest_limit() -> None:
    # 64 registers x 256 threads: 65536 / 16384 = 4 blocks; 227 KiB / 48 KiB = 4 blocks.
    found = features(KERNEL)
    assert found["blocks_per_core"] == 4.0
    assert found["occupancy"] == 4 * 256 / 2048
    # 660 blocks over 4 x 132 places: one full wave and a quarter of another.
    assert found["waves"] == pytest.approx(1.25)
    assert found["last_wave_share"] == pytest.approx(0.25)


def test_registers_are_handed_out_to_warps_in_steps_of_256() -> None:
    # 65 registers need 2304 per warp, 8 warps 18432: 3 blocks instead of 3.94.
    one = replace(KERNEL, registers_per_thread=65, dynamic_shared_bytes=0)
    assert features(one)["blocks_per_core"] == 3.0


def test_rates_are_amounts_over_latency() -> None:
    assert features(KERNEL)["log_flops_per_us"] == 10.0
    assert math.isnan(features(KERNEL)["log_bytes_per_us"])
    assert features(KERNEL)["log_code_bytes"] == 10.0


def test_what_does_not_fit_into_the_cache_comes_from_memory() -> None:
    target = known_target("h100")

    def memory_bytes(unique_bytes: int | None) -> np.ndarray:
        stats = KernelStats(unique_bytes=unique_bytes)
        row = compiler_features(stats, latency_us=10.0, target=target)
        names = ["log_memory_bytes", "log_memory_bytes_per_us"]
        return np.asarray(np.exp2(feature_columns(row[None, :], names)[0]) - 1.0)

    assert memory_bytes(target.cache_bytes).tolist() == [0.0, 0.0]
    beyond = 2 * target.cache_bytes
    assert memory_bytes(beyond) == pytest.approx([beyond, beyond / 10.0], rel=1e-5)
    assert np.isnan(memory_bytes(None)).all()


def test_unreported_numbers_are_nan_not_zero() -> None:
    found = features(replace(KERNEL, registers_per_thread=None, spill_bytes=None))
    assert math.isnan(found["registers_per_thread"])
    assert math.isnan(found["log_spill_bytes"])


def test_a_cpu_build_has_no_launch() -> None:
    found = features()
    assert found["n_kernels"] == 0.0
    assert math.isnan(found["occupancy"])
    assert math.isnan(found["last_wave_share"])


def test_spills_of_all_kernels_count_and_the_largest_launch_describes_the_rest() -> None:
    small = replace(KERNEL, grid=(1, 1, 1), spill_bytes=1, registers_per_thread=255)
    found = features(small, replace(KERNEL, spill_bytes=2))
    assert found["log_spill_bytes"] == 2.0
    assert found["registers_per_thread"] == 64.0
    assert found["n_kernels"] == 2.0

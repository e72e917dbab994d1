from __future__ import annotations

from dataclasses import replace

from cost_models.occupancy import blocks_per_core
from schedules.stats import KernelResources
from schedules.target import Target, known_target

H200 = known_target("h200")
SMALL = KernelResources(name="main", block=(64, 1, 1), registers_per_thread=16)


def test_blocks_are_limited_before_threads_where_they_are_small() -> None:
    # 2048 / 64 = 32, as many as the limit on blocks.
    assert blocks_per_core(SMALL, H200) == 32
    assert blocks_per_core(replace(SMALL, block=(32, 1, 1)), H200) == 32
    assert blocks_per_core(replace(SMALL, block=(256, 1, 1)), H200) == 8


def test_a_cut_short_warp_takes_a_whole_ones_place() -> None:
    # 33 threads are two warps: 2048 / 64 = 32; 300 threads are ten: 2048 / 320 = 6.4.
    assert blocks_per_core(replace(SMALL, block=(300, 1, 1)), H200) == 6


def test_each_block_pays_a_kibibyte_of_shared_memory() -> None:
    # 228 KiB over 56 + 1 KiB is 4; without the reserve 227 / 56 would be 4.05 as well, but
    # 228 / 57 = 4 exactly and 228 / 58 = 3.93.
    assert blocks_per_core(replace(SMALL, dynamic_shared_bytes=56 * 1024), H200) == 4
    assert blocks_per_core(replace(SMALL, dynamic_shared_bytes=57 * 1024), H200) == 3


def test_smaller_gpus_hold_fewer_threads() -> None:
    for name in ("rtx3090", "rtx4090", "rtx5090"):
        assert blocks_per_core(replace(SMALL, block=(256, 1, 1)), known_target(name)) == 6


def test_a_block_that_fits_nowhere_counts_zero() -> None:
    assert blocks_per_core(replace(SMALL, dynamic_shared_bytes=300 * 1024), H200) == 0


def test_an_unknown_architecture_uses_what_the_target_says() -> None:
    other = Target(
        kind="cuda",
        arch="sm_75",
        name="other",
        n_cores=40,
        shared_memory_per_block_bytes=64 * 1024,
    )
    assert blocks_per_core(replace(SMALL, dynamic_shared_bytes=32 * 1024), other) == 2

"""Launches that cannot fit are named before anything is built."""

from __future__ import annotations

import pytest

from schedules.limits import launch_refusal
from schedules.target import known_target

H200 = known_target("h200")


def test_fitting_launch_is_accepted() -> None:
    assert launch_refusal(H200, threads_per_block=256, registers_per_thread=128) is None


@pytest.mark.parametrize(
    ("threads", "registers", "shared", "reason"),
    [
        (2048, 16, 0, "2048 threads per block"),
        (256, 256, 0, "256 registers per thread"),
        (1024, 128, 0, "131072 registers per block"),
        (128, 64, 300_000, "300000 bytes of shared memory"),
        (48, 64, 0, "no multiple of 32"),
    ],
)
def test_each_limit_has_its_reason(threads: int, registers: int, shared: int, reason: str) -> None:
    refusal = launch_refusal(
        H200, threads_per_block=threads, registers_per_thread=registers, shared_bytes=shared
    )
    assert refusal is not None
    assert reason in refusal

"""Built kernels that a device would refuse to launch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schedules.errors import IllegalCandidate
from schedules.limits import require_launchable
from schedules.stats import KernelResources, KernelStats
from schedules.target import KNOWN_TARGETS

H200 = KNOWN_TARGETS["h200"]
FITS = KernelResources(
    name="main_kernel",
    block=(32, 8, 1),
    registers_per_thread=128,
    static_shared_bytes=40 * 1024,
    dynamic_shared_bytes=187 * 1024,
)


def test_a_kernel_at_the_limits_launches() -> None:
    require_launchable(KernelStats(kernels=(FITS,)), H200)


@pytest.mark.parametrize(
    ("kernel", "what"),
    [
        (replace(FITS, dynamic_shared_bytes=188 * 1024), "shared memory"),
        (replace(FITS, dynamic_shared_bytes=20 * 1024), "dynamic part alone"),
        (replace(FITS, block=(32, 33, 1), registers_per_thread=16), "threads per block"),
        (replace(FITS, block=(32, 32, 1)), "registers per block"),
    ],
)
def test_a_kernel_beyond_a_limit_is_refused(kernel: KernelResources, what: str) -> None:
    with pytest.raises(IllegalCandidate, match=what):
        require_launchable(KernelStats(kernels=(FITS, kernel)), H200)

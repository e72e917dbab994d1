"""What Nsight Compute prints with ``--csv --page raw --print-units base``, read.

Lines of its own (``==PROF==``) come first, then a line of column names, a line of units,
and a line per kernel that was profiled. Numbers may have commas between thousands.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from effcompile.errors import CountersUnavailable

METRICS = {
    "time_ns": "gpu__time_duration.sum",
    "dram_read_bytes": "dram__bytes_read.sum",
    "dram_write_bytes": "dram__bytes_write.sum",
    "dram_percent": "dram__bytes.sum.pct_of_peak_sustained_elapsed",
    "l2_hit_percent": "lts__t_sector_hit_rate.pct",
    "tensor_percent": "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed",
    "issue_percent": "smsp__issue_active.avg.pct_of_peak_sustained_elapsed",
    "sm_percent": "sm__cycles_active.avg.pct_of_peak_sustained_elapsed",
    "occupancy_percent": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "registers": "launch__registers_per_thread",
    "waves": "launch__waves_per_multiprocessor",
}
"""Our names, which end with the unit, and Nsight Compute's."""

STALL_GROUP = "group:smsp__pcsamp_warp_stall_reasons"
"""All reasons at once: they come from samples, which take a single pass."""

_STALL = re.compile(r"smsp__pcsamp_warps_issue_stalled_(\w+?)(_not_issued)?")
_UNITS = {"ns": ("ns", "nsecond"), "bytes": ("byte",), "percent": ("%",)}
_RANGES = "Push/Pop_Range"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfiledKernel:
    """One launch of one kernel.

    Attributes:
        name: Symbol of the device function.
        range_name: Innermost range that it was launched in.
        counters: By the names of ``METRICS``; those that this GPU does not have are left out.
        n_samples: Samples of warps by what held them; ``selected`` are those that issued.
    """

    name: str
    range_name: str
    counters: Mapping[str, float]
    n_samples: Mapping[str, int]


def read_kernels(text: str) -> list[ProfiledKernel]:
    """The launches in the order in which they were made; empty if there is no table.

    Raises:
        CountersUnavailable: A counter comes in another unit than was asked for.
    """
    lines = text.splitlines(keepends=True)
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    found = []
    for row in csv.DictReader(lines[start:]):
        if not row["ID"]:
            _check_units(row)
        elif row["ID"].isdigit():
            found.append(_kernel(row))
    return found


def _check_units(units: Mapping[str, str]) -> None:
    for name, metric in METRICS.items():
        expected, unit = _UNITS.get(name.rpartition("_")[2]), units.get(metric)
        if expected and unit and unit not in expected:
            raise CountersUnavailable(
                f"cannot read what ncu printed: {metric} is in {unit}, expected {expected[0]}. "
                "Use the ncu of a CUDA 13 toolkit."
            )


def _kernel(row: Mapping[str, str]) -> ProfiledKernel:
    counters = {name: _number(row.get(metric)) for name, metric in METRICS.items()}
    stalls = {
        match[1]: int(_number(value) or 0)
        for column, value in row.items()
        if (match := _STALL.fullmatch(column or "")) and not match[2]
    }
    return ProfiledKernel(
        name=row["Kernel Name"],
        range_name=_innermost_range(row),
        counters={name: value for name, value in counters.items() if value is not None},
        n_samples=stalls,
    )


def _number(text: str | None) -> float | None:
    """``None`` for what was not counted: ``n/a``, or ``nan`` of nothing over nothing."""
    try:
        value = float((text or "").replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _innermost_range(row: Mapping[str, str]) -> str:
    """Of ``12 "<default domain>:outer:none:..." "<default domain>:inner:none:..."`` the last."""
    column = next((name for name in row if name and _RANGES in name), "")
    names = re.findall(r'"[^":]*:([^":]*):[^"]*"', row.get(column) or "")
    return names[-1] if names else ""

"""Nsight Compute around the launches of entry points, all in one process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from effcompile.bench.counters_csv import METRICS, STALL_GROUP
from effcompile.bench.counters_entries import ProfiledEntry
from effcompile.bench.counters_target import FailedEntry, range_name
from effcompile.errors import CountersDenied, CountersUnavailable
from effcompile.measure.toolkit import ncu_path

_TARGET = "effcompile.bench.counters_target"


def profile(entries: Sequence[ProfiledEntry], n_launches: int) -> tuple[str, list[FailedEntry]]:
    """What Nsight Compute printed about the launches, and the entry points that failed.

    Raises:
        CountersDenied: This user may not read the counters.
        CountersUnavailable: There is no ``ncu``, or it profiled nothing and nobody said why.
    """
    ncu = ncu_path()
    if ncu is None:
        raise CountersUnavailable(
            "cannot read hardware counters: found no ncu (Nsight Compute). It is part of the CUDA "
            "toolkit; set CUDA_HOME to its folder or put ncu into PATH."
        )
    with tempfile.TemporaryDirectory(prefix="effcompile-counters-") as folder:
        log = Path(folder) / "ncu.csv"
        ended = subprocess.run(
            _command(ncu, entries, n_launches, log), check=False, capture_output=True, text=True
        )
        printed = log.read_text(encoding="utf-8") if log.exists() else ""
    failed = [
        msgspec.json.decode(line, type=FailedEntry)
        for line in ended.stdout.splitlines()
        if line.startswith('{"index":')
    ]
    if '"ID"' not in printed and len(failed) < len(entries):
        _refuse(printed + ended.stdout + ended.stderr)
    return printed, failed


def _command(
    ncu: str, entries: Sequence[ProfiledEntry], n_launches: int, log: Path
) -> list[str | Path]:
    """Caches empty before every pass, clocks as they are, nothing outside the ranges."""
    ranges = [f"--nvtx-include={range_name(index)}/" for index in range(len(entries))]
    return [
        *(ncu, "--csv", "--page", "raw", "--print-units", "base", "--log-file", log),
        *("--print-kernel-base", "function", "--cache-control", "all", "--clock-control", "none"),
        *("--metrics", ",".join([*METRICS.values(), STALL_GROUP]), "--nvtx", *ranges),
        *(sys.executable, "-m", _TARGET, msgspec.json.encode(entries).decode(), str(n_launches)),
    ]


def _refuse(said: str) -> None:
    if "ERR_NVGPUCTRPERM" in said:
        raise CountersDenied(
            "the driver lets administrators alone read hardware counters (ERR_NVGPUCTRPERM). Run "
            "this as root, in a container with --cap-add=SYS_ADMIN, or have the line "
            "'options nvidia NVreg_RestrictProfilingToAdminUsers=0' put into a file of "
            "/etc/modprobe.d and the driver loaded again."
        )
    lines = [line for line in said.splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith("==ERROR==")] or lines[-3:]
    raise CountersUnavailable(
        f"ncu profiled nothing: {' '.join(causes)[:400] or 'it said nothing'}. Check that no other "
        "profiler (DCGM, nsys) holds the GPU and that its version knows this GPU."
    )

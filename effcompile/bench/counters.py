"""Hardware counters of tuned kernels: what limits each of them, under Nsight Compute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from effcompile.bench.counters_csv import read_kernels
from effcompile.bench.counters_entries import entries_of
from effcompile.bench.counters_ncu import profile
from effcompile.bench.counters_rows import CounterRow, rows_of
from effcompile.bench.counters_target import range_name
from effcompile.output_files import writing


def bench_counters(
    source: Path, *, only: Sequence[str] = (), n_launches: int = 3, raw: Path | None = None
) -> list[CounterRow]:
    """Profile entry points in one process and tell the limit of each of their kernels.

    Args:
        source: ``NAME.effc``, or the ``--work`` folder of ``bench kernels``.
        only: Names of cases or entry points; all if empty.
        n_launches: Of each entry point, after one that is not profiled.
        raw: Receives what Nsight Compute printed.

    Raises:
        CountersDenied: This user may not read the counters.
        CountersUnavailable: There is no ``ncu``, or it profiled nothing.
        UsageError: There is no such artifact or name.
    """
    entries = entries_of(source, only)
    printed, failed = profile(entries, n_launches)
    if raw is not None:
        with writing(raw):
            raw.write_text(printed, encoding="utf-8")
    errors = {one.index: one.error for one in failed}
    kernels = read_kernels(printed)
    rows: list[CounterRow] = []
    for index, entry in enumerate(entries):
        if index in errors:
            rows.append(CounterRow(name=entry.name, error=errors[index]))
            continue
        own = [one for one in kernels if one.range_name == range_name(index)]
        rows += rows_of(entry.name, own, n_launches)
    return rows

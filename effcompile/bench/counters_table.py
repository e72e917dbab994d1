"""Rows of counters for people: rounded cells, and a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence

from effcompile.bench.counters_rows import CounterRow


def cells(row: CounterRow) -> dict[str, str]:
    """A row by column: megabytes are 10^6 bytes, shares per cent, unknown numbers dashes."""
    return {
        "name": row.name,
        "kernel": row.kernel,
        "limit": row.limit,
        "us": _number(row.time_us, 1, 2),
        "read, MB": _number(row.dram_read_bytes, 1e-6, 2),
        "write, MB": _number(row.dram_write_bytes, 1e-6, 2),
        "DRAM, %": _percent(row.dram_share),
        "tensor, %": _percent(row.tensor_share),
        "issue, %": _percent(row.issue_share),
        "SMs, %": _percent(row.sm_share),
        "L2, %": _percent(row.l2_hit_share),
        "warps, %": _percent(row.occupancy_share),
        "regs": _number(row.registers, 1, 0),
        "waves": _number(row.waves, 1, 2),
        "warps wait for": _stalls(row),
        "error": row.error,
    }


def markdown(rows: Sequence[CounterRow]) -> str:
    """One table; the column of errors only where there is one."""
    tables = [cells(row) for row in rows]
    columns = [name for name in (tables[0] if tables else {}) if any(row[name] for row in tables)]
    lines = [
        f"| {' | '.join(columns)} |",
        f"|{'|'.join(' --- ' for _ in columns)}|",
        *(f"| {' | '.join(row[name] for name in columns)} |" for row in tables),
    ]
    return "\n".join(lines) + "\n"


def _stalls(row: CounterRow) -> str:
    """Short kernels have few samples, so their number is told."""
    reasons = ", ".join(f"{one.reason} {100 * one.share:.0f} %" for one in row.stalls)
    return f"{reasons} of {row.n_samples} samples" if reasons else ""


def _number(value: float | None, factor: float, n_digits: int) -> str:
    return "-" if value is None else f"{factor * value:.{n_digits}f}"


def _percent(share: float | None) -> str:
    return _number(share, 100, 0)

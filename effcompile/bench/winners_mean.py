"""What winners that were measured again save on the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from effcompile.bench.winner_rows import WinnerRow


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanSaving:
    """Savings of all workloads together.

    Attributes:
        n_workloads: With a measured ratio.
        saved_percent: Mean over workloads of the mean over seeds.
        ci95_percent: Half width of its interval, from the intervals of the ratios.
        best_percent: The largest saving of a workload.
        best: Whose it is.
        slowdown_percent: Mean of the times under lasting load, likewise.
    """

    n_workloads: int
    saved_percent: float
    ci95_percent: float
    best_percent: float
    best: str
    slowdown_percent: float | None


def mean_saving(rows: Sequence[WinnerRow]) -> MeanSaving | None:
    """The mean over workloads, each the mean over its seeds; ``None`` without ratios."""
    names = list(dict.fromkeys(row.workload for row in rows if row.energy is not None))
    if not names:
        return None
    saved, errors, slower = {}, [], []
    for name in names:
        own = [row for row in rows if row.workload == name and row.energy is not None]
        ratios = [row.energy for row in own if row.energy is not None]
        saved[name] = 100.0 * (1.0 - sum(one.median for one in ratios) / len(ratios))
        # Seeds often share candidates, so their errors are not independent.
        errors.append(50.0 * sum(one.high - one.low for one in ratios) / len(ratios))
        slower += [100.0 * (row.sustained.median - 1.0) for row in own if row.sustained]
    best = max(saved, key=lambda name: saved[name])
    return MeanSaving(
        n_workloads=len(names),
        saved_percent=sum(saved.values()) / len(saved),
        ci95_percent=sum(one**2 for one in errors) ** 0.5 / len(errors),
        best_percent=saved[best],
        best=best,
        slowdown_percent=sum(slower) / len(slower) if slower else None,
    )

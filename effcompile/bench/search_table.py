"""The comparison of ways to search, for documents: a Markdown table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from effcompile.bench.search_outcomes import SearchOutcome
from effcompile.bench.search_rows import Mean, SearchRow

_COLUMNS = (
    "way",
    "trials",
    "saved, %",
    "best, %",
    "slower, %",
    "over best recorded, %",
    "over V2, %",
    "over k = 1, %",
    "windows",
    "energy s",
    "wall s: build, latency, energy, finals",
    "models s",
    "J",
)
_COLOURS = {"V2": "#0b7285", "V1": "#22b8cf"}
_OTHER = "#868e96"


def cells(row: SearchRow) -> dict[str, str]:
    """A row by column, rounded for people."""
    phases = [row.build_s, row.latency_s, row.energy_s, row.final_s]
    known = [f"{one:.1f}" for one in phases if one is not None]
    wall = f"{row.wall_s:.1f}: {', '.join(known)}" if row.wall_s is not None else ""
    share = "" if row.energy_share is None else f" ({100 * row.energy_share:.0f} %)"
    energy = "" if row.energy_s is None else f"{row.energy_s:.1f}{share}"
    values = (
        f"{row.way}: {row.about}",
        _number(row.n_trials, 0),
        _mean(row.saved),
        _number(row.best_saved, 1),
        _mean(row.slowdown),
        _mean(row.excess),
        _mean(row.versus_reference),
        _mean(row.versus_all),
        _number(row.n_energies, 1),
        energy,
        wall,
        _number(row.model_s, 1),
        _number(row.joules, 0),
    )
    return dict(zip(_COLUMNS, values, strict=True))


def markdown(rows: Sequence[SearchRow]) -> str:
    """One table."""
    lines = [
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'|'.join(' --- ' for _ in _COLUMNS)}|",
        *(f"| {' | '.join(cells(row).values())} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def workload_markdown(outcomes: Sequence[SearchOutcome], way: str) -> str:
    """What one way saved on each workload, the mean over its seeds."""
    lines = [
        "| workload | saved, % | slower, % | mJ | over best recorded, % | J | launches that pay |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    own = [one for one in outcomes if one.way == way]
    for name in dict.fromkeys(one.workload for one in own):
        seeds = [one for one in own if one.workload == name]
        columns = (
            _list([one.saved for one in seeds], 100.0),
            _list([one.slowdown for one in seeds], 100.0),
            _list([one.energy_mj for one in seeds], 1.0),
            _list([one.excess for one in seeds], 100.0),
            _list([one.spent.joules for one in seeds], 1.0),
            _list([one.payback_runs for one in seeds], 1.0),
        )
        lines.append(f"| {name} | {' | '.join(columns)} |")
    return "\n".join(lines) + "\n"


def picture(rows: Sequence[SearchRow], path: Path) -> None:
    """Energy over the best recorded against recorded seconds, a point per way; SVG or PNG.

    Args:
        rows: Those without both numbers are left out.
        path: Its ending says the format.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "search", "font.size": 9.0}):
        figure = Figure(figsize=(7.0, 4.2), layout="constrained")
        axes = figure.subplots()
        for row in rows:
            if row.excess is None or row.wall_s is None:
                continue
            colour = _COLOURS.get(row.way, _OTHER)
            axes.errorbar(
                row.wall_s, row.excess.value, yerr=row.excess.ci95 or 0.0, fmt="o", color=colour
            )
            axes.annotate(
                row.way,
                (row.wall_s, row.excess.value),
                xytext=(5, 4),
                textcoords="offset points",
                color=colour,
            )
        axes.set_xlabel("recorded seconds per workload (builds on 16 cores)")
        axes.set_ylabel("energy over the best recorded, %")
        axes.set_ylim(bottom=0.0)
        axes.grid(color="#dee2e6", linewidth=0.6)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _number(value: float | None, n_digits: int) -> str:
    return "" if value is None else f"{value:.{n_digits}f}"


def _mean(mean: Mean | None) -> str:
    if mean is None:
        return ""
    return f"{mean.value:.1f}" if mean.ci95 is None else f"{mean.value:.1f} ± {mean.ci95:.1f}"


def _list(values: Sequence[float | None], factor: float) -> str:
    return ", ".join("?" if one is None else f"{factor * one:.3g}" for one in values)

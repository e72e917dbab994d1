"""Fronts of recorded workloads as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effcompile.bench.fronts import SLOWDOWNS, Front, energy_mj
from search.pareto import front

N_COLUMNS = 4
MOST_SLOWDOWN = 1.0
"""Slower candidates than this are not drawn, unless nothing else is left of a library."""


def picture(fronts: Sequence[Front], path: Path) -> None:
    """A small chart per workload: energy against time, both over the fastest's; SVG or PNG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    n_rows = -(-len(fronts) // N_COLUMNS)
    with mpl.rc_context({"svg.hashsalt": "fronts", "svg.fonttype": "none", "font.size": 8.0}):
        figure = Figure(figsize=(2.4 * N_COLUMNS, 2.1 * n_rows), layout="constrained")
        axes = figure.subplots(n_rows, N_COLUMNS, squeeze=False).flat
        for one, found in zip(axes, [*fronts, *[None] * len(fronts)], strict=False):
            if found is None:
                one.set_axis_off()
            else:
                _chart(one, found)
        figure.supxlabel("time of a launch in bursts over the fastest's")
        figure.supylabel("energy over the fastest's")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _chart(axes: Any, found: Front) -> None:
    fastest = found.fastest

    def scaled(points: Sequence[Any]) -> tuple[list[float], list[float]]:
        return (
            [one.latency_us / fastest.latency_us for one in points],
            [one.energy_mj / energy_mj(fastest) for one in points],
        )

    near = [p for p in found.points if p.latency_us <= fastest.latency_us * (1 + MOST_SLOWDOWN)]
    axes.axvspan(1.0, 1.0 + SLOWDOWNS[0], color="#d3f9d8", linewidth=0)
    axes.plot(*scaled(near), ".", color="#868e96", markersize=2.5)
    axes.step(*scaled(front(near)), where="post", color="#0b7285", linewidth=1.0)
    axes.plot(*scaled([fastest]), "o", color="#0b7285", markersize=4)
    axes.plot(*scaled([found.least[0]]), "*", color="#e8590c", markersize=7)
    if found.peer_point is not None:
        axes.plot(*scaled([found.peer_point]), "x", color="#9c36b5", markersize=5)
    axes.set_title(found.workload, fontsize=8.0)
    axes.grid(color="#dee2e6", linewidth=0.5)

"""Pictures of a report as inline SVG that takes the page's colours and font."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from effcompile.report.records import RunReport, TaskReport
from search.final import Ratio

# Drawn in these colours, then replaced, so that one picture fits light and dark pages.
_INK, _FAINT, _DEFAULT, _CHOSEN, _OTHER = "#010101", "#020202", "#030303", "#040404", "#050505"
_PAGE_COLOURS = {
    _INK: "currentColor",
    _FAINT: "var(--line)",
    _DEFAULT: "var(--default)",
    _CHOSEN: "var(--chosen)",
    _OTHER: "var(--other)",
}
_MOST_BARS = 24


def gains_chart(report: RunReport) -> str:
    """Change of latency and energy per task, with intervals; empty without comparisons."""
    tasks = [
        task
        for task in report.tasks
        if task.comparison.latency_ratio is not None or task.comparison.energy_ratio is not None
    ]
    tasks = sorted(tasks, key=_share_us, reverse=True)[:_MOST_BARS]
    if not tasks:
        return ""

    def draw(axes: Any) -> None:
        for row, task in enumerate(tasks):
            _gain_mark(axes, row - 0.15, task.comparison.latency_ratio, _OTHER, "o")
            _gain_mark(axes, row + 0.15, task.comparison.energy_ratio, _CHOSEN, "s")
        axes.axvline(0, color=_INK, linewidth=0.8)
        axes.set_yticks(range(len(tasks)), [_short(task) for task in tasks])
        axes.set_ylim(len(tasks) - 0.5, -0.5)
        axes.set_xlabel("change against default, %  (left is better; hollow: tie)")
        axes.grid(axis="x", color=_FAINT, linewidth=0.6)
        handles = [
            axes.plot([], [], "o", color=_OTHER, label="latency")[0],
            axes.plot([], [], "s", color=_CHOSEN, label="energy")[0],
        ]
        axes.legend(
            handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False
        )

    return _svg(draw, salt="gains", width=10, height=0.9 + 0.36 * len(tasks))


def front_chart(task: TaskReport) -> str:
    """Latency and energy of every measured trial, the front, default and choice."""
    points = [point for point in task.points if point.energy_mj is not None]
    if not points:
        return ""

    def draw(axes: Any) -> None:
        axes.plot(
            [point.latency_us for point in task.front],
            [point.energy_mj for point in task.front],
            color=_OTHER,
            linewidth=1.2,
            drawstyle="steps-post",
            label="front",
        )
        for name, colour, marker, wanted in (
            ("trial", _OTHER, "o", None),
            ("default", _DEFAULT, "D", task.default_trial_id),
            ("chosen", _CHOSEN, "*", task.chosen_trial_id),
        ):
            special = (task.default_trial_id, task.chosen_trial_id)
            shown = [
                point
                for point in points
                if point.trial_id == wanted or (wanted is None and point.trial_id not in special)
            ]
            axes.scatter(
                [point.latency_us for point in shown],
                [point.energy_mj for point in shown],
                s=90 if marker == "*" else 22,
                color=colour,
                marker=marker,
                label=name,
                zorder=3,
            )
        axes.set_xlabel("latency, µs")
        axes.set_ylabel("energy, mJ")
        axes.grid(color=_FAINT, linewidth=0.6)
        axes.legend(loc="upper right", frameon=False, fontsize=8)

    return _svg(draw, salt=f"front {task.task_id}")


def convergence_chart(task: TaskReport) -> str:
    """Best latency by number of trials."""
    if not task.improvements:
        return ""
    steps = [(one.n_trials, one.latency_us) for one in task.improvements]
    steps.append((max(task.n_trials, steps[-1][0]), steps[-1][1]))

    def draw(axes: Any) -> None:
        axes.step(*zip(*steps, strict=True), where="post", color=_CHOSEN, linewidth=1.8)
        axes.plot(*zip(*steps[:-1], strict=True), "o", color=_CHOSEN, markersize=3.5)
        default = task.comparison.default_latency_us
        if default is not None:
            axes.axhline(default.value, color=_DEFAULT, linewidth=1, linestyle="--")
            axes.annotate(
                "default",
                (1, default.value),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                color=_DEFAULT,
                fontsize=8,
            )
        axes.set_xlabel("trials")
        axes.set_ylabel("best latency, µs")
        axes.set_ylim(bottom=0)
        axes.grid(color=_FAINT, linewidth=0.6)

    return _svg(draw, salt=f"convergence {task.task_id}")


def _gain_mark(axes: Any, row: float, ratio: Ratio | None, colour: str, marker: str) -> None:
    if ratio is None or not math.isfinite(ratio.high):
        return
    low, median, high = (100 * (end - 1) for end in (ratio.low, ratio.median, ratio.high))
    axes.errorbar(
        [median],
        [row],
        xerr=[[median - low], [high - median]],
        fmt=marker,
        color=colour,
        markerfacecolor="none" if ratio.is_tie else colour,
        markersize=5,
        capsize=3,
        linewidth=1.2,
    )


def _share_us(task: TaskReport) -> float:
    default = task.comparison.default_latency_us
    return 0.0 if default is None else task.weight * default.value


def _short(task: TaskReport) -> str:
    return task.name if len(task.name) <= 34 else task.name[:31] + "..."


def _svg(draw: Callable[[Any], None], *, salt: str, width: float = 6.4, height: float = 3.2) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings = {
        # Text stays text, in the page's font; ids differ between the pictures of one page.
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.edgecolor": _INK,
        "axes.labelcolor": _INK,
        "text.color": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "legend.labelcolor": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _fit_page(buffer.getvalue())


def _fit_page(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    for drawn, shown in _PAGE_COLOURS.items():
        svg = svg.replace(drawn, shown)
    # The width comes from the page; the view box keeps the shape.
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(_HEIGHT, r"\1", svg, count=1), count=1
    )


_HEIGHT = r'(<svg[^>]*?) height="[^"]*"'


def charts_of(tasks: Sequence[TaskReport]) -> dict[str, tuple[str, str]]:
    """Front and convergence by task id."""
    return {task.task_id: (front_chart(task), convergence_chart(task)) for task in tasks}

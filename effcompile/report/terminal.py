"""The report as tables for a terminal."""

from __future__ import annotations

import sys

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from effcompile import rounding
from effcompile.report import wording
from effcompile.report.records import Comparison, ModelReport, RunReport, TaskReport
from search.final import Ratio


def render(report: RunReport) -> RenderableType:
    """Whole model, tasks, failures and cost; print it with a rich console."""
    parts: list[RenderableType] = [_heading(report)]
    if report.predicted_by:
        parts.append(Text(wording.predicted(report), style="bold yellow"))
    if report.models:
        parts.append(_model_table(report))
    parts.append(_task_table(report))
    parts += [Text(line, style="dim") for line in _notes(report)]
    return Group(*parts)


def print_report(report: RunReport) -> None:
    """Write the tables to stdout, 100 columns wide where that is no terminal."""
    Console(width=None if sys.stdout.isatty() else 100).print(render(report))


def _heading(report: RunReport) -> Text:
    text = Text(f"{report.folder}", style="bold")
    text.append(
        f"   {report.device} ({report.arch}), {len(report.tasks)} tasks, "
        f"{report.n_trials} trials, seed {report.seed}",
        style="not bold",
    )
    return text


def _model_table(report: RunReport) -> Table:
    table = _table("Whole model", "entry")
    for model in report.models:
        table.add_row(_entry(model), *_comparison_cells(model.comparison))
    return table


def _task_table(report: RunReport) -> Table:
    table = _table("Tasks (predicted)" if report.predicted_by else "Tasks", "task")
    table.add_column("schedule", overflow="fold")
    table.add_column("trials\n(failed)", no_wrap=True)
    for task in report.tasks:
        n_failed = sum(kind.count for kind in task.failures)
        table.add_row(
            f"{task.weight} × {task.name}",
            *_comparison_cells(task.comparison),
            _choice(task),
            f"{task.n_trials} ({n_failed})",
        )
    return table


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_lines=True)
    table.add_column(first, overflow="fold")
    for heading in ("latency", "energy"):
        table.add_column(heading, no_wrap=True)
    return table


def _comparison_cells(comparison: Comparison) -> list[Text]:
    return [
        _cell(
            wording.latency(comparison.default_latency_us),
            wording.latency(comparison.latency_us),
            comparison.latency_ratio,
        )
        + _sustained(comparison),
        _cell(
            wording.energy(comparison.default_energy_mj),
            wording.energy(comparison.energy_mj),
            comparison.energy_ratio,
        ),
    ]


def _sustained(comparison: Comparison) -> Text:
    """Latency under lasting load below that of short bursts, where it was measured."""
    if comparison.sustained_us is None:
        return Text()
    cell = _cell(
        wording.latency(comparison.default_sustained_us),
        wording.latency(comparison.sustained_us),
        comparison.sustained_ratio,
    )
    return Text("\nsustained\n", style="dim") + cell


def _cell(before: str, after: str, ratio: Ratio | None) -> Text:
    """Default, chosen, and the change, one below the other."""
    text = Text(before if before == after else f"{before}\n→ {after}")
    if ratio is not None:
        style = "dim" if ratio.is_tie else "green" if ratio.median < 1 else "red"
        text.append(f"\n{rounding.change(ratio)}", style=style)
    return text


def _choice(task: TaskReport) -> Text:
    return Text(wording.choice(task) + (", tie" if task.is_tie else ""))


def _entry(model: ModelReport) -> str:
    dims = ", ".join(f"{name}={value}" for name, value in model.dims.items())
    return f"{model.entry} ({dims})" if dims else model.entry


def _notes(report: RunReport) -> list[str]:
    notes = [wording.spent(report), wording.payback(report)]
    notes += [wording.meter(report.meter)] if report.meter else []
    notes += [f"Energy not measured: {reason}" for reason in wording.no_energy_reasons(report)]
    if report.n_damaged:
        notes.append(f"{report.n_damaged} damaged records were set aside: effcompile repair")
    for task in report.tasks:
        notes += [
            f"{task.name}: {kind.count} × {kind.state}, first: {kind.example}"
            for kind in task.failures
        ]
    return notes

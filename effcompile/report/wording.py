"""Cells that every form of the report shares."""

from __future__ import annotations

from effcompile import rounding
from effcompile.report.records import Comparison, Measured, RunReport, TaskReport

NOT_MEASURED = "not measured"


def latency(measured: Measured | None) -> str:
    """``412.6 ± 0.9 µs``, or milliseconds from ten thousand microseconds on."""
    if measured is None:
        return NOT_MEASURED
    if measured.value >= 10_000:
        ci95_ms = None if measured.ci95 is None else measured.ci95 / 1000
        return rounding.quantity(measured.value / 1000, ci95_ms, "ms")
    return rounding.quantity(measured.value, measured.ci95, "µs")


def energy(measured: Measured | None) -> str:
    """``68.1 ± 0.4 mJ``."""
    if measured is None:
        return NOT_MEASURED
    if measured.value < 0.1:
        ci95_uj = None if measured.ci95 is None else measured.ci95 * 1000
        return rounding.quantity(measured.value * 1000, ci95_uj, "µJ")
    return rounding.quantity(measured.value, measured.ci95, "mJ")


def latency_change(comparison: Comparison) -> str:
    """Change against the default; empty where nothing was compared."""
    return "" if comparison.latency_ratio is None else rounding.change(comparison.latency_ratio)


def energy_change(comparison: Comparison) -> str:
    """Change against the default; empty where nothing was compared."""
    return "" if comparison.energy_ratio is None else rounding.change(comparison.energy_ratio)


def choice(task: TaskReport) -> str:
    """Which schedule an artifact takes, and how sure that is."""
    if task.chosen_trial_id is None:
        return "default, nothing measured yet"
    if task.chosen_trial_id == task.default_trial_id:
        return "default"
    return task.space if task.is_final else f"{task.space}, still searching"


def no_energy_reasons(report: RunReport) -> list[str]:
    """Distinct reasons why energy is missing somewhere."""
    comparisons = [task.comparison for task in report.tasks]
    comparisons += [model.comparison for model in report.models]
    return sorted({one.no_energy_reason for one in comparisons if one.no_energy_reason})


def payback(report: RunReport) -> str:
    """One sentence on when the search pays back."""
    found = report.payback
    if found.n_runs is None or found.saved_mj is None:
        return f"No payback can be given: {found.basis}."
    return (
        f"The metered energy of the search is saved after {rounding.count(found.n_runs)} runs of "
        f"the model, at {energy(Measured(value=found.saved_mj, ci95=None))} less per run "
        f"(from {found.basis})."
    )


def spent(report: RunReport) -> str:
    """One sentence on what the search cost."""
    total_s = sum(report.spent.seconds.values())
    parts = ", ".join(
        f"{name} {rounding.duration(seconds)}"
        for name, seconds in report.spent.seconds.items()
        if seconds > 0
    )
    joules = report.spent.window_energy_j
    metered = (
        "its energy was not measured"
        if joules is None
        else f"{rounding.rough(joules)} J of the device inside energy windows "
        "(building and timing not metered)"
    )
    return f"The search took {rounding.duration(total_s)} ({parts or 'nothing yet'}); {metered}."

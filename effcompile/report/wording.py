"""Cells that every form of the report shares."""

from __future__ import annotations

from effcompile import rounding
from effcompile.report.records import Comparison, Measured, RunReport, Spent, TaskReport
from search.meter_facts import MeterFacts

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


def predicted(report: RunReport) -> str:
    """What to know of numbers that nobody measured; empty where they were measured."""
    if not report.predicted_by:
        return ""
    return (
        f"PREDICTED, not measured: no candidate was run or checked. Latencies, energies and "
        f"intervals of tasks come from {report.predicted_by}."
    )


def latency_change(comparison: Comparison) -> str:
    """Change against the default; empty where nothing was compared."""
    return "" if comparison.latency_ratio is None else rounding.change(comparison.latency_ratio)


def sustained_change(comparison: Comparison) -> str:
    """Change against the default; empty where nothing was compared."""
    return "" if comparison.sustained_ratio is None else rounding.change(comparison.sustained_ratio)


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


def _metered(spent: Spent) -> str:
    if spent.device_energy_j is not None:
        return f"the device drew {rounding.rough(spent.device_energy_j)} J meanwhile, all counted"
    if spent.window_energy_j is None:
        return "its energy was not measured"
    return (
        f"{rounding.rough(spent.window_energy_j)} J of the device inside energy windows "
        "(building and timing not metered)"
    )


def meter(facts: MeterFacts) -> str:
    """One sentence on what the numbers were taken with."""
    parts = [f"counter steps every {facts.period_ms:.1f} ms, {facts.call_ms:.1f} ms a reading"]
    if facts.idle_cold_w is not None and facts.idle_hot_w is not None:
        parts.append(f"idle {facts.idle_cold_w:.0f} W before load, {facts.idle_hot_w:.0f} W after")
    if facts.rise_ms is not None:
        parts.append(f"steady {facts.rise_ms:.0f} ms after load begins")
    if facts.repeatability is not None:
        parts.append(f"anchor windows repeat within {facts.repeatability:.2%}")
    if facts.instant_share is not None:
        parts.append(f"instant power {facts.instant_share:+.1%} against the counter")
    if facts.memory_power_w is not None:
        parts.append(f"memory {facts.memory_power_w:.0f} W under load")
    else:
        parts.append("memory not told apart")
    return f"Meter {facts.meter}: {'; '.join(parts)}."


def payback(report: RunReport) -> str:
    """One sentence on when the search pays back."""
    found = report.payback
    if found.n_runs is None or found.saved_mj is None:
        return f"No payback can be given: {found.basis}."
    return (
        f"The {'' if report.spent.device_energy_j is not None else 'metered '}energy of the search "
        f"is saved after {rounding.count(found.n_runs)} runs of "
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
    metered = _metered(report.spent)
    return f"The search took {rounding.duration(total_s)} ({parts or 'nothing yet'}); {metered}."

"""After how many runs the joules that the search spent are saved again."""

from __future__ import annotations

from collections.abc import Sequence

from effcompile.report.records import Comparison, ModelReport, Payback, Spent, TaskReport


def payback_of(spent: Spent, models: Sequence[ModelReport], tasks: Sequence[TaskReport]) -> Payback:
    """Joules of the search over joules saved per run.

    Those of the whole sessions where they were counted, else those inside energy windows,
    which makes the number of runs a lower bound.

    The saving is that of the whole model where it was measured, otherwise the
    sum over tasks by their weight. Differences inside the interval save nothing.
    """
    spent_j = spent.device_energy_j or spent.window_energy_j
    if spent_j is None:
        return Payback(n_runs=None, saved_mj=None, basis="the search metered no energy")
    if any(model.comparison.energy_ratio is not None for model in models):
        saved_mj = sum(_saved_mj(model.comparison) for model in models)
        basis = "the whole model, measured"
    else:
        saved_mj = sum(task.weight * _saved_mj(task.comparison) for task in tasks)
        basis = "the sum over tasks"
    if saved_mj <= 0:
        return Payback(n_runs=None, saved_mj=None, basis=f"{basis} shows no saving")
    return Payback(n_runs=1000 * spent_j / saved_mj, saved_mj=saved_mj, basis=basis)


def _saved_mj(comparison: Comparison) -> float:
    ratio, default = comparison.energy_ratio, comparison.default_energy_mj
    if ratio is None or default is None or ratio.is_tie:
        return 0.0
    return default.value * (1.0 - ratio.median)

"""Where tasks and a run stand, in one line each."""

from __future__ import annotations

from effcompile import rounding
from effcompile.report import wording
from effcompile.report.records import Measured
from search.events import RunFinished, RunStarted, TaskFinished, TaskProgress, Totals

_FAILURE_WORDS = {
    "build_error": "build",
    "build_timeout": "build time",
    "run_error": "run",
    "run_timeout": "run time",
    "wrong_result": "wrong",
    "invalid_measurement": "unsteady",
}


def started_line(event: RunStarted) -> str:
    """What is about to happen."""
    word = "continuing" if event.resumed else "starting"
    energy = "" if event.measures_energy else "; energy is not measured here, latency is tuned"
    totals = event.totals
    return (
        f"{word}: {len(event.tasks)} tasks, {totals.n_trials} of {totals.n_planned} trials done"
        f"{energy}"
    )


def finished_line(event: RunFinished) -> str:
    """How the run ended."""
    totals = event.totals
    return (
        f"finished ({event.stopped_by}): {totals.n_trials} trials, "
        f"failed {failure_words(totals.failures)}, {rounding.duration(totals.elapsed_s)}"
    )


def task_line(task: TaskProgress, n_tasks: int, totals: Totals) -> str:
    """One line that says where a task and the run stand."""
    return "  ".join(
        [
            f"[{task.position + 1}/{n_tasks}] {task.name}",
            f"{totals.n_trials}/{totals.n_planned}",
            latency_words(task),
            energy_words(task),
            f"failed {failure_words(task.failures)}",
            _left_words(totals),
        ]
    )


def totals_words(totals: Totals, n_tasks: int) -> str:
    """Trials, failures and time of the whole run."""
    return (
        f"{totals.n_trials}/{totals.n_planned} trials, {n_tasks} tasks, "
        f"failed {failure_words(totals.failures)}, {_left_words(totals)}"
    )


def latency_words(task: TaskProgress) -> str:
    """``412.6 µs (-8 %)``: what would be taken now, against the default."""
    if task.chosen_latency_us is None:
        return "no latency yet"
    shown = wording.latency(Measured(value=task.chosen_latency_us, ci95=None))
    return shown.removeprefix("about ") + _against(task.chosen_latency_us, task.default_latency_us)


def energy_words(task: TaskProgress) -> str:
    """``68.1 mJ (-14 %)``, or that there is none."""
    if task.chosen_energy_mj is None:
        return "no energy"
    shown = wording.energy(Measured(value=task.chosen_energy_mj, ci95=None))
    return shown.removeprefix("about ") + _against(task.chosen_energy_mj, task.default_energy_mj)


def failure_words(failures: dict[str, int]) -> str:
    """``9: build 5, run 3, wrong 1``."""
    total = sum(failures.values())
    if total == 0:
        return "0"
    parts = sorted(failures.items(), key=lambda item: -item[1])
    listed = ", ".join(
        f"{_FAILURE_WORDS.get(state, state)} {number}" for state, number in parts if number
    )
    return f"{total}: {listed}"


def verdict(event: TaskFinished) -> str:
    """The outcome of a task in a few words."""
    final = event.final
    if final.is_tie or final.winner_trial_id == final.default_trial_id:
        return "tie, default stays" if final.is_tie else "default stays"
    winner = final.winner
    ratio = winner.energy_ratio if final.criterion == "energy" else winner.judged_ratio
    return f"trial {winner.trial_id}" + (
        "" if ratio is None else f": {final.criterion} {rounding.change(ratio)}"
    )


def _against(value: float, default: float | None) -> str:
    if default is None or default <= 0:
        return ""
    percent = round(100 * (value / default - 1))
    return f" ({percent:+d} %)".replace("-", "\u2212")


def _left_words(totals: Totals) -> str:
    if totals.left_s is None:
        return "time left unknown"
    return f"{rounding.duration(totals.left_s)} left"

"""Progress lines: what is shown, and when."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from effcompile.cli.progress import LiveProgress, PlainProgress, progress_display, shown_tasks
from effcompile.cli.progress_words import energy_words, failure_words, latency_words, task_line
from schedules.candidate import Candidate
from search.events import (
    FinalsStarted,
    RoundStarted,
    RunFinished,
    RunStarted,
    TaskFinished,
    TaskProgress,
    Totals,
    TrialFinished,
)
from search.final import Final, Finalist, Ratio
from search.trial import Trial, TrialState

TASK = TaskProgress(
    task_id="t",
    position=2,
    name="attention",
    weight=4,
    n_trials=187,
    failures={"run_error": 3, "build_error": 5, "wrong_result": 1},
    default_latency_us=408.0,
    default_energy_mj=79.4,
    chosen_latency_us=412.64,
    chosen_energy_mj=68.13,
    chosen_trial_id=12,
)
TOTALS = Totals(
    n_trials=187, n_planned=512, failures={"build_error": 5}, elapsed_s=80.0, left_s=41.0
)
STARTED = RunStarted(tasks=(TASK,), totals=TOTALS, resumed=True, measures_energy=False)
ROUND = RoundStarted(task=TASK, round_index=1, n_proposed=8, totals=TOTALS)
TRIAL = TrialFinished(
    trial=Trial(
        trial_id=1,
        task_id="t",
        round_index=0,
        origin="default",
        candidate=Candidate(space="default", decisions="{}"),
        state=TrialState.OK,
    ),
    task=TASK,
    totals=TOTALS,
)
FINISHED = RunFinished(stopped_by="budget", tasks=(TASK,), totals=TOTALS)


def final(*, is_tie: bool) -> TaskFinished:
    ratio = Ratio(median=0.858, low=0.852, high=0.864)
    return TaskFinished(
        final=Final(
            task_id="t",
            default_trial_id=1,
            winner_trial_id=1 if is_tie else 12,
            criterion="energy",
            is_tie=is_tie,
            finalists=(Finalist(trial_id=1), Finalist(trial_id=12, energy_ratio=ratio)),
            front=(),
            last_trial_id=20,
            settings="",
        ),
        task=TASK,
        totals=TOTALS,
    )


def test_one_line_tells_where_a_task_stands() -> None:
    assert task_line(TASK, 12, TOTALS) == (
        "[3/12] attention  187/512  413 µs (+1 %)  68.1 mJ (−14 %)  "
        "failed 9: build 5, run 3, wrong 1  41 s left"
    )


def test_what_is_not_known_is_said() -> None:
    fresh = TaskProgress(task_id="t", position=0, name="a", weight=1)
    assert latency_words(fresh) == "no latency yet"
    assert energy_words(fresh) == "no energy"
    assert failure_words({}) == "0"
    unknown = replace(TOTALS, left_s=None)
    assert task_line(fresh, 1, unknown).endswith("time left unknown")


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_plain_lines_come_at_round_ends_and_every_half_minute() -> None:
    stream, clock = io.StringIO(), Clock()
    with PlainProgress(stream, clock=clock) as progress:
        progress(STARTED)
        progress(ROUND)
        for second in range(100):
            clock.now_s = float(second)
            progress(TRIAL)
        progress(final(is_tie=False))
        progress(final(is_tie=True))
        progress(FINISHED)
    lines = stream.getvalue().splitlines()
    assert lines[0] == (
        "continuing: 1 tasks, 187 of 512 trials done; energy is not measured here, latency is tuned"
    )
    # One for the round, then trials at 30, 60 and 90 seconds.
    assert [line.startswith("[3/1] attention") for line in lines[1:5]] == [True] * 4
    assert lines[5].endswith("trial 12: energy −14.2 % [−14.8, −13.6]")
    assert lines[6].endswith("tie, default stays")
    assert lines[7] == "finished (budget): 187 trials, failed 5: build 5, 01:20"
    assert len(lines) == 8


def test_finals_are_announced_once() -> None:
    stream = io.StringIO()
    with PlainProgress(stream) as progress:
        progress(STARTED)
        for _ in range(2):
            progress(FinalsStarted(task=TASK, n_finalists=3, totals=TOTALS))
            progress(final(is_tie=True))
    lines = stream.getvalue().splitlines()
    assert ["again" in line for line in lines] == [False, True, False, False]
    assert lines[2].endswith("tie, default stays")


def test_streams_that_are_no_terminal_get_plain_lines() -> None:
    assert isinstance(progress_display(io.StringIO()), PlainProgress)


def test_live_display_shows_every_task_and_leaves_the_last_state() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=140, height=40)
    other = replace(TASK, task_id="u", position=0, name="softmax", chosen_energy_mj=None)
    with LiveProgress(console) as progress:
        progress(replace(STARTED, tasks=(other, TASK)))
        progress(TRIAL)
        progress(final(is_tie=False))
        progress(replace(FINISHED, tasks=(other, TASK)))
    last = stream.getvalue()[-3000:]
    for piece in ("4 × softmax", "4 × attention", "no energy", "187/512 trials, 2 tasks"):
        assert piece in last
    assert "trial 12: energy" in last


def test_screens_too_small_keep_the_active_and_the_heaviest_tasks() -> None:
    tasks = [
        replace(TASK, task_id=str(i), position=i, chosen_latency_us=float(i)) for i in range(50)
    ]
    shown = [task.task_id for task in shown_tasks(tasks, "3", 5)]
    assert shown == ["3", "46", "47", "48", "49"]

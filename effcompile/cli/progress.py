"""What a person sees while a search runs: live lines on a terminal, plain lines elsewhere.

The loop reports events; nothing here reaches back into it. Everything goes to stderr, so
that results on stdout stay clean.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from effcompile.cli.progress_words import (
    energy_words,
    failure_words,
    finished_line,
    latency_words,
    started_line,
    task_line,
    totals_words,
    verdict,
)
from search.events import (
    Event,
    FinalsStarted,
    RoundStarted,
    RunFinished,
    RunStarted,
    TaskFinished,
    TaskProgress,
    Totals,
)

PLAIN_INTERVAL_S = 30.0


class Progress(Protocol):
    """Takes the loop's events until it is closed; use it in a ``with`` block."""

    def __call__(self, event: Event) -> None:
        """Show one event."""

    def __enter__(self) -> Progress: ...

    def __exit__(self, *failure: object) -> None: ...


def progress_display(stream: TextIO | None = None) -> Progress:
    """Live lines if ``stream`` (stderr) is a terminal, else one plain line now and then."""
    stream = stream or sys.stderr
    if stream.isatty():
        return LiveProgress(Console(file=stream))
    return PlainProgress(stream)


class PlainProgress:
    """One line per half minute, per finished round's start, and per finished task."""

    def __init__(
        self,
        stream: TextIO,
        *,
        interval_s: float = PLAIN_INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write to ``stream``; ``clock`` counts seconds and never goes back."""
        self._stream = stream
        self._interval_s = interval_s
        self._clock = clock
        self._last_line_s = clock()
        self._n_tasks = 0
        self._in_finals = False

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *failure: object) -> None:
        self._stream.flush()

    def __call__(self, event: Event) -> None:
        """Write a line if the event ends something or the last line is old."""
        if isinstance(event, RunStarted):
            self._n_tasks = len(event.tasks)
            self._write(started_line(event))
        elif isinstance(event, RunFinished):
            self._write(finished_line(event))
        elif isinstance(event, TaskFinished):
            self._write(task_line(event.task, self._n_tasks, event.totals) + f"  {verdict(event)}")
        elif isinstance(event, FinalsStarted):
            self._write_once("measuring the best of every task again, in turn with its default")
        elif isinstance(event, RoundStarted) or self._is_due():
            self._write(task_line(event.task, self._n_tasks, event.totals))

    def _write_once(self, line: str) -> None:
        if not self._in_finals:
            self._write(line)
        self._in_finals = True

    def _is_due(self) -> bool:
        return self._clock() - self._last_line_s >= self._interval_s

    def _write(self, line: str) -> None:
        self._last_line_s = self._clock()
        self._stream.write(line + "\n")
        self._stream.flush()


class LiveProgress:
    """A table that is redrawn in place: one line per task, totals below."""

    def __init__(self, console: Console) -> None:
        """Draw on ``console``, a few times a second at most."""
        self._tasks: dict[str, TaskProgress] = {}
        self._verdicts: dict[str, str] = {}
        self._totals: Totals | None = None
        self._active = ""
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._table)

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Remember the event; the next redraw shows it."""
        self._totals = event.totals
        if isinstance(event, RunStarted | RunFinished):
            for task in event.tasks:
                self._tasks[task.task_id] = task
            self._active = ""
            return
        self._tasks[event.task.task_id] = event.task
        self._active = event.task.task_id
        if isinstance(event, TaskFinished):
            self._verdicts[event.task.task_id] = verdict(event)

    def _table(self) -> Group:
        table = Table(box=None, padding=(0, 1), show_edge=False)
        table.add_column("task", overflow="ellipsis", no_wrap=True, max_width=40)
        for heading in ("trials", "latency", "energy"):
            table.add_column(heading, no_wrap=True, justify="right")
        table.add_column("failed, then outcome", no_wrap=True, overflow="ellipsis")
        for task in shown_tasks(self._tasks.values(), self._active, self._console.height - 6):
            table.add_row(
                f"{task.weight} × {task.name}",
                str(task.n_trials),
                latency_words(task),
                energy_words(task),
                self._verdicts.get(task.task_id) or failure_words(task.failures),
                style="bold" if task.task_id == self._active else None,
            )
        return Group(table, self._totals_line())

    def _totals_line(self) -> Table:
        line = Table.grid(padding=(0, 1))
        totals = self._totals
        if totals is None:
            line.add_row(Text("starting", style="dim"))
            return line
        bar = ProgressBar(total=max(1, totals.n_planned), completed=totals.n_trials, width=30)
        line.add_row(bar, Text(totals_words(totals, len(self._tasks))))
        return line


def shown_tasks(tasks: Iterable[TaskProgress], active: str, n_lines: int) -> list[TaskProgress]:
    """The tasks that fit on the screen: the active one and those that take most of the time."""

    def share_us(task: TaskProgress) -> float:
        return task.weight * (task.chosen_latency_us or 0.0)

    everything = list(tasks)
    n_lines = max(3, n_lines)
    ranked = sorted(everything, key=lambda task: (task.task_id != active, -share_us(task)))
    kept = {task.task_id for task in ranked[:n_lines]}
    return [task for task in everything if task.task_id in kept]

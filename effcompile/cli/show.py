"""Tasks and trials of a run, for the command ``show``."""

from __future__ import annotations

from pathlib import Path

from effcompile.cli.output import print_json, print_rows, print_text
from effcompile.cli.show_rows import TaskRow, TrialRow, task_rows, trial_rows
from effcompile.run_folder import RunFolder
from search.database import Database


def show_run(path: Path, *, task: str | None, failed: bool, json: bool) -> None:
    """Print the tasks of a run; with a task or ``failed``, its trials.

    Raises:
        UsageError: Not a run folder, or no such task.
    """
    folder = RunFolder(path)
    folder.require()
    rows: list[TaskRow] | list[TrialRow]
    with Database(folder.database_path, read_only=True) as database:
        if task is None and not failed:
            rows = task_rows(database)
        else:
            rows = trial_rows(database, task=task, failed=failed)
        set_aside = database.quarantined()
    if json:
        print_json(rows)
        return
    print_rows(rows)
    for row in set_aside:
        print_text(f"set aside: {row.table} {row.row_id}: {row.cause}")

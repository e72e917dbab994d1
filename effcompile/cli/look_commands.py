"""Commands that look: ``report``, ``show``, ``record``, ``doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from effcompile.cli.output import print_json, print_note
from effcompile.cli.tune_commands import Json


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(report)
    app.command()(show)
    app.command()(record)
    app.command(name="train-models")(train_models)
    app.command()(doctor)


def report(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    html: Annotated[
        Path | None, typer.Option(help="Page to write; default RUN/report.html.")
    ] = None,
    json: Json = False,
) -> None:
    """Default against tuned: terminal table and a self-contained HTML page.

    Example: effcompile report runs/block
    """
    from effcompile.output_files import check_output
    from effcompile.report.collect import collect
    from effcompile.report.html import write_html
    from effcompile.report.terminal import print_report
    from effcompile.run_folder import RunFolder

    page = html or run / "report.html"
    RunFolder(run).require()
    check_output(page)
    collected = collect(run)
    write_html(collected, page)
    if json:
        print_json(collected)
    else:
        print_report(collected)
        typer.echo(f"page: {page}")


def show(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    task: Annotated[str | None, typer.Option(help="Task id, or the start of one.")] = None,
    failed: Annotated[bool, typer.Option(help="Failed trials only, with their causes.")] = False,
    json: Json = False,
) -> None:
    """Tasks of a run; with --task or --failed, its trials.

    Example: effcompile show runs/block --failed
    """
    from effcompile.cli.show import show_run

    show_run(run, task=task, failed=failed, json=json)


def record(
    run: Annotated[
        list[Path],
        typer.Argument(help="Run folder, copy of its database, or a recording; may be several."),
    ],
    out: Annotated[Path, typer.Option(help="Recording to write, NAME.effrec.")],
    command: Annotated[
        str, typer.Option(help="How the runs were made; guessed from settings if left out.")
    ] = "",
    json: Json = False,
) -> None:
    """Runs to one file that --device replay:FILE tunes again without the device.

    Example: effcompile record runs/block --out block.effrec
    """
    from effcompile.replaying import record_runs

    recording = record_runs(run, out, command=command, watch=print_note)
    counts = {
        "path": out,
        "size_bytes": out.stat().st_size,
        "n_tasks": len(recording.tasks),
        "n_candidates": sum(len(space.candidates) for t in recording.tasks for space in t.spaces),
        "n_energies": sum(task.n_energies for task in recording.tasks),
    }
    if json:
        print_json(counts)
    else:
        typer.echo(
            f"wrote {out} ({counts['size_bytes']} bytes): {counts['n_tasks']} tasks, "
            f"{counts['n_candidates']} candidates, {counts['n_energies']} builds with energy"
        )


def train_models(
    device: Annotated[list[str], typer.Option(help="replay:NAME or replay:FILE; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Models to write, NAME.effmodels.")],
    json: Json = False,
) -> None:
    """Power and latency models of a GPU from recordings of it.

    Example: effcompile train-models --device replay:h100 --out effcompile/models/h100.effmodels
    """
    from effcompile.training import train_from

    models = train_from(device, out)
    told = {
        "path": out,
        "size_bytes": out.stat().st_size,
        "training": models.training,
        "errors": {
            one.quantity: {"level": one.level_error, "within": one.within_error}
            for one in (models.power, models.latency)
        },
    }
    if json:
        print_json(told)
        return
    typer.echo(f"wrote {out} ({told['size_bytes']} bytes): {models.label()}")
    for one in (models.power, models.latency):
        typer.echo(
            f"{one.quantity}, on a workload it does not know: off by {one.level_error:.1%} on the "
            f"whole, by {one.within_error:.1%} between candidates (standard deviations)"
        )


def doctor(json: Json = False) -> None:
    """Device, meters, rights, versions: what works here, and what to do about the rest.

    Example: effcompile doctor
    """
    from effcompile.cli.output import print_rows
    from effcompile.doctor import examine

    checks = examine()
    if json:
        print_json(checks)
    else:
        print_rows(checks)
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)

"""Benchmarks on recordings, and ``bench winners``, which measures what was found on one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from effcompile.cli.output import print_json, print_rows, print_text
from effcompile.cli.tune_commands import Json

if TYPE_CHECKING:
    from search.recording import Recording


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (fronts, search, search_time, reach, models, winners):
        app.command()(command)


def fronts(
    *,
    device: Annotated[str, typer.Option(help="replay:NAME or replay:FILE.")],
    picture: Annotated[
        Path | None, typer.Option(help="Also draw them there, .svg or .png.")
    ] = None,
    json: Json = False,
) -> None:
    """What a recording holds: the fastest candidate of each workload, and less energy beside it.

    Example: effcompile bench fronts --device replay:h100 --picture fronts.svg
    """
    from effcompile.bench.fronts import fronts_of
    from effcompile.bench.fronts_picture import picture as draw
    from effcompile.output_files import check_output

    if picture is not None:
        check_output(picture)
    found = fronts_of(_recording(device))
    if picture is not None:
        draw(found, picture)
    if json:
        print_json(found)
    else:
        print_rows([one.cells() for one in found])


def search(
    *,
    device: Annotated[str, typer.Option(help="replay:NAME or replay:FILE.")],
    trials: Annotated[int, typer.Option(help="Trials of each search, per workload.", min=1)] = 128,
    seeds: Annotated[int, typer.Option(help="Searches of each kind, seeds 0, 1, ...", min=1)] = 3,
    max_slowdown: Annotated[
        str, typer.Option(help="Latency that may be given up for energy, 2% or 0.02.")
    ] = "2%",
    only: Annotated[
        list[str] | None, typer.Option(help="Way to search, for example B3; may be repeated.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Warm ways learn from these recordings, replay:NAME.")
    ] = None,
    processes: Annotated[int, typer.Option(help="Workloads searched at a time.", min=1)] = 1,
    markdown: Annotated[Path | None, typer.Option(help="Also write the tables there.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Also draw them there, .svg or .png.")
    ] = None,
    json: Json = False,
) -> None:
    """Ways to search for low energy on a recorded device: what they find, what they spend.

    Example: effcompile bench search --device replay:h100 --trials 64 --seeds 3
    """
    from effcompile.bench import search_table
    from effcompile.bench.search_compare import bench_search
    from effcompile.bench.search_rows import rows_of
    from effcompile.bench.search_ways import REFERENCE, WAYS
    from effcompile.cli.options import merged, parse_share
    from effcompile.config import preset
    from effcompile.output_files import check_output

    for path in (markdown, picture):
        if path is not None:
            check_output(path)
    settings = {"n_trials": trials, "max_slowdown": parse_share(max_slowdown, "--max-slowdown")}
    recording = _recording(device)
    outcomes = bench_search(
        recording,
        config=merged(preset("normal"), {"search": settings}, "the command line"),
        seeds=range(seeds),
        names=only or list(WAYS),
        teacher=None if teacher is None else _recording(teacher, "--teacher"),
        processes=processes,
        watch=_say,
    )
    rows = rows_of(recording, outcomes)
    if markdown is not None:
        by_workload = search_table.workload_markdown(outcomes, REFERENCE)
        markdown.write_text(f"{search_table.markdown(rows)}\n{by_workload}", encoding="utf-8")
    if picture is not None:
        search_table.picture(rows, picture)
    if json:
        print_json({"rows": rows, "outcomes": outcomes})
    else:
        print_rows([search_table.cells(row) for row in rows])


def search_time(
    *,
    device: Annotated[str, typer.Option(help="replay:NAME or replay:FILE.")],
    trials: Annotated[int, typer.Option(help="Trials of each search, per workload.", min=1)] = 192,
    seeds: Annotated[int, typer.Option(help="Searches of each kind, seeds 0, 1, ...", min=1)] = 3,
    within: Annotated[
        str, typer.Option(help="What is close enough to the best recorded, 3% or 0.03.")
    ] = "3%",
    json: Json = False,
) -> None:
    """Seconds and trials until a search has a good point, cold and with models of other workloads.

    Fast is a latency close to the least recorded, frugal an energy of the choice close to the
    least within the latency limit.

    Example: effcompile bench search-time --device replay:h100
    """
    from effcompile.bench.search_time import bench_search_time
    from effcompile.bench.search_time_table import rows_of
    from effcompile.cli.options import merged, parse_share
    from effcompile.config import preset

    found = bench_search_time(
        _recording(device),
        config=merged(preset("normal"), {"search": {"n_trials": trials}}, "the command line"),
        seeds=range(seeds),
        within=parse_share(within, "--within"),
        watch=_say,
    )
    if json:
        print_json(found)
    else:
        print_rows(rows_of(found))


def reach(
    run: Annotated[Path, typer.Argument(help="Run folder or database.")],
    *,
    known: Annotated[
        list[Path] | None,
        typer.Option(help="Another run of the same tasks, whose best counts; may be repeated."),
    ] = None,
    within: Annotated[
        str, typer.Option(help="What is close enough to the best known, 3% or 0.03.")
    ] = "3%",
    json: Json = False,
) -> None:
    """Trials and seconds until a run had a good point of each task.

    Seconds are those that the tuning loop spent on the task: planning, waiting for builds, timing.

    Example: effcompile bench reach runs/bench-kernels/together/run
    """
    from effcompile.bench.reach import bench_reach
    from effcompile.bench.reach_table import rows_of
    from effcompile.cli.options import parse_share

    share = parse_share(within, "--within")
    found = bench_reach(run, known=known or (), within=share)
    if json:
        print_json(found)
    else:
        print_rows(rows_of(found, within=share))


def models(
    *,
    device: Annotated[str, typer.Option(help="replay:NAME or replay:FILE.")],
    band: Annotated[
        str, typer.Option(help="Candidates this much slower than the best are judged, 10% or 0.1.")
    ] = "10%",
    teacher: Annotated[
        str | None, typer.Option(help="Learn from these recordings instead, replay:NAME.")
    ] = None,
    json: Json = False,
) -> None:
    """How well models predict the energy of fast candidates of a recording.

    Workloads are judged by models that never saw them, and after their first 16 energies; a
    second table tells what choosing by predicted latency alone is worth.

    Example: effcompile bench models --device replay:h200-workloads --teacher replay:h100
    """
    from effcompile.bench.model_compare import LEAST_JUDGED, bench_models
    from effcompile.bench.unmeasured import bench_unmeasured
    from effcompile.cli.options import parse_share

    recording = _recording(device)
    taught_by = None if teacher is None else _recording(teacher, "--teacher")
    energy = bench_models(
        recording, band=parse_share(band, "--band"), teacher=taught_by, watch=_say
    )
    if not energy:
        _say(f"no workload has {LEAST_JUDGED} energies within {band} of its best: latency only")
    unmeasured = bench_unmeasured(recording, teacher=taught_by, watch=_say)
    if json:
        print_json({"energy": energy, "unmeasured": unmeasured})
        return
    for rows in ([row.cells() for row in energy], unmeasured):
        if rows:
            print_rows(rows)


def winners(
    *,
    device: Annotated[str, typer.Option(help="replay:NAME or replay:FILE.")],
    target: Annotated[str, typer.Option(help="Device to measure on: auto, cpu or cuda.")] = "auto",
    pairs: Annotated[
        Path | None, typer.Option(help="Winners found before; searched for unless it exists.")
    ] = None,
    find_only: Annotated[
        bool, typer.Option("--find-only", help="Search and write --pairs, measure nothing.")
    ] = False,
    trials: Annotated[int, typer.Option(help="Trials of each search.", min=1)] = 256,
    seeds: Annotated[int, typer.Option(help="Searches per workload, seeds 0, 1, ...", min=1)] = 3,
    max_slowdown: Annotated[
        str, typer.Option(help="Latency that may be given up for energy, 2% or 0.02.")
    ] = "2%",
    processes: Annotated[int, typer.Option(help="Workloads searched at a time.", min=1)] = 1,
    finalists: Annotated[int, typer.Option(help="Measured again, per search.", min=1)] = 4,
    rounds: Annotated[int, typer.Option(help="Interleaved repetitions.", min=1)] = 5,
    seconds: Annotated[float, typer.Option(help="Begin no workload that ends later.")] = 600.0,
    work: Annotated[Path, typer.Option(help="Folder for models, runs and logs.")] = Path(
        "runs/bench-winners"
    ),
    json: Json = False,
) -> None:
    """Winners of searches on a recording against the fastest of the same trials, measured here.

    Rows are printed workload by workload, so a run that is cut off has told what it knew.

    Example: effcompile bench winners --device replay:h100 --target cuda --rounds 5
    """
    from effcompile.bench.winner_pairs import find_pairs
    from effcompile.bench.winners import measure_pairs, winners_config
    from effcompile.bench.winners_file import read_pairs, write_pairs
    from effcompile.bench.winners_mean import mean_saving
    from effcompile.cli.options import merged, parse_share
    from effcompile.config import preset
    from effcompile.errors import UsageError
    from effcompile.measure.environment import detect_target
    from effcompile.output_files import check_output

    recording = _recording(device)
    settings = {
        "n_trials": trials,
        "max_slowdown": parse_share(max_slowdown, "--max-slowdown"),
        "n_finalists": finalists,
    }
    config = merged(preset("normal"), {"search": settings}, "the command line")
    config = replace(config, measure=winners_config())
    if find_only and pairs is None:
        raise UsageError("cannot use --find-only without --pairs: name the file to write.")
    if pairs is not None:
        check_output(pairs)
    if pairs is not None and pairs.is_file() and not find_only:
        found = read_pairs(pairs)
    else:
        found = find_pairs(recording, config, range(seeds), watch=_say, processes=processes)
        if pairs is not None:
            write_pairs(found, pairs)
    if find_only:
        print_text(f"wrote {pairs}: {len(found)} pairs")
        return
    rows = measure_pairs(
        recording,
        found,
        target=detect_target(target),
        config=config,
        work=work,
        n_rounds=rounds,
        seconds=seconds,
        report=lambda part: print_rows([row.cells() for row in part], to_stderr=json),
    )
    mean = mean_saving(rows)
    if json:
        print_json({"rows": rows, "mean": mean})
    elif mean is not None:
        print_rows([mean])


def _recording(device: str, option: str = "--device") -> Recording:
    from effcompile.errors import UsageError
    from effcompile.recordings import REPLAY
    from effcompile.replaying import open_recording

    if not device.startswith(REPLAY):
        raise UsageError(f"unknown {option} {device!r}: expected replay:NAME or replay:FILE.")
    return open_recording(device.removeprefix(REPLAY))


def _say(text: str) -> None:
    typer.echo(text, err=True)

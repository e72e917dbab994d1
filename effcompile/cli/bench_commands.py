"""Benchmarks on this device: ``bench tuner``, ``kernels``, ``counters``, ``meter``, ``workloads``,
``peers``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from effcompile.cli import recorded_bench_commands
from effcompile.cli.output import print_json, print_rows, print_text
from effcompile.cli.tune_commands import Json

app = typer.Typer(help="Ours and the strongest peers on the same work, measured in one run.")
recorded_bench_commands.register(app)

Work = Annotated[Path, typer.Option(help="Folder for models, runs and logs.")]


@app.command()
def tuner(
    *,
    workload: Annotated[
        list[str], typer.Option(help="For example matmul-2048-float16; may be repeated.")
    ] = ["softmax-4096x4096-float32", "matmul-2048-float16"],  # noqa: B006
    trials: Annotated[int, typer.Option(help="Trials of each tuner.", min=1)] = 64,
    target: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    stock: Annotated[bool, typer.Option(help="Also run stock MetaSchedule.")] = True,
    work: Work = Path("runs/bench-tuner"),
    json: Json = False,
) -> None:
    """Trials per second and memory of the tuner, beside stock MetaSchedule.

    Example: effcompile bench tuner --workload matmul-2048-float16 --trials 64
    """
    from effcompile.bench.tuner_speed import bench_tuner_speed
    from effcompile.measure.environment import detect_target

    rows = bench_tuner_speed(
        workload,
        n_trials=trials,
        target=detect_target(target),
        work=work,
        stock=stock,
        watch=lambda row: print_rows([row], to_stderr=True),
    )
    _print(rows, json)


@app.command()
def kernels(
    *,
    family: Annotated[
        list[str] | None, typer.Option(help="For example softmax or merge; may be repeated.")
    ] = None,
    case: Annotated[
        list[str] | None, typer.Option(help="One case by name; may be repeated.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Trials per case.", min=1)] = 96,
    seconds: Annotated[
        float | None, typer.Option(help="Begin no trial of a case after this long.", min=1)
    ] = None,
    rounds: Annotated[
        int, typer.Option(help="Interleaved repetitions; an interval needs two.", min=2)
    ] = 5,
    window_ms: Annotated[
        float, typer.Option(help="Energy window of each contender and round.", min=200)
    ] = 1000.0,
    cache: Annotated[str, typer.Option(help="hot, cold or both.")] = "cold",
    skip_peer: Annotated[
        list[str] | None,
        typer.Option(
            help="Part of a peer's name, for example inductor, or CASE:PEER with part of a case's: "
            "not run, and said so."
        ),
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="Tune all cases in one session, which is quicker.")
    ] = False,
    latency_only: Annotated[
        bool,
        typer.Option("--latency-only", help="Tune by latency alone; energy is measured after."),
    ] = False,
    max_slowdown: Annotated[
        str, typer.Option(help="Latency that may be given up for energy, 2% or 0.02.")
    ] = "2%",
    space: Annotated[
        list[str] | None,
        typer.Option(help="Search only this design space, also where another is preferred."),
    ] = None,
    names: Annotated[bool, typer.Option("--names", help="Only name the cases.")] = False,
    work: Work = Path("runs/bench-kernels"),
    json: Json = False,
) -> None:
    """The kernel families, tuned here, against the strongest peers on the same tensors.

    Cut off and started again, it continues each case's tuning where it was; finished rows
    lie in the work folder.

    Example: effcompile bench kernels --family softmax --trials 64
    """
    from effcompile.bench.kernels.case import chosen_cases
    from effcompile.cli.options import merged, parse_share
    from effcompile.config import preset
    from effcompile.errors import UsageError

    caches = ["hot", "cold"] if cache == "both" else [cache]
    if not set(caches) <= {"hot", "cold"}:
        raise UsageError(f"cannot use --cache {cache!r}: expected hot, cold or both.")
    chosen = chosen_cases(family or (), case or ())
    if names:
        _print_names([one.name for one in chosen], json)
        return
    from effcompile.bench.kernels.compare import bench_kernels, cold_tuning

    limits = {
        "n_trials": trials,
        "max_seconds": seconds,
        "max_slowdown": parse_share(max_slowdown, "--max-slowdown"),
    }
    overrides = {"search": {**limits, "spaces": tuple(space or ())}}
    config = merged(preset("quick"), overrides, "the command line")
    tuning = cold_tuning(config, caches)
    if latency_only:
        tuning = replace(tuning, measure=replace(tuning.measure, meter="none"))
    rows = bench_kernels(
        chosen,
        config=tuning,
        measure=replace(
            config.measure, energy_window_ms=window_ms, energy_precision=0.0, n_repeats=20
        ),
        caches=caches,
        work=work,
        n_rounds=rounds,
        skipped_peers=skip_peer or (),
        together=together,
        report=lambda title, found: print_rows(found, to_stderr=json),
    )
    if json:
        print_json(rows)


@app.command()
def counters(
    source: Annotated[Path, typer.Argument(help="NAME.effc, or the --work folder of kernels.")],
    *,
    only: Annotated[
        list[str] | None, typer.Option(help="Case or entry point by name; may be repeated.")
    ] = None,
    launches: Annotated[int, typer.Option(help="Profiled launches of each.", min=1)] = 3,
    raw: Annotated[Path | None, typer.Option(help="Also keep what ncu printed, .csv.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Also write the table there.")] = None,
    json: Json = False,
) -> None:
    """What limits each tuned kernel, by the GPU's hardware counters; needs Nsight Compute (ncu).

    Launches are profiled one by one from cold caches, at the clocks that the GPU chooses.

    Example: effcompile bench counters runs/bench-kernels --only softmax-8192x4096-float32
    """
    from effcompile.bench import counters_table
    from effcompile.bench.counters import bench_counters
    from effcompile.output_files import check_output

    for path in (raw, markdown):
        if path is not None:
            check_output(path)
    rows = bench_counters(source, only=only or (), n_launches=launches, raw=raw)
    if markdown is not None:
        markdown.write_text(counters_table.markdown(rows), encoding="utf-8")
    if json:
        print_json(rows)
    else:
        print_rows([counters_table.cells(row) for row in rows])


@app.command()
def workloads(
    *,
    out: Annotated[Path, typer.Option(help="Receives the database, NAME.sqlite.")],
    seconds: Annotated[float, typer.Option(help="For all workloads together.", min=30)] = 600.0,
    only: Annotated[
        list[str] | None, typer.Option(help="A workload by name; may be repeated.")
    ] = None,
    energies: Annotated[
        int | None, typer.Option(help="End once every workload has so many energies.", min=1)
    ] = None,
    trials: Annotated[int, typer.Option(help="Most trials of all together.", min=1)] = 10_000,
    target: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    meter: Annotated[str, typer.Option(help="Energy meter: auto, nvml, rapl or none.")] = "auto",
    names: Annotated[bool, typer.Option("--names", help="Only name the workloads.")] = False,
    work: Work = Path("runs/bench-workloads"),
    json: Json = False,
) -> None:
    """Measure many candidates of the standard workloads within a time limit, for recordings.

    Cut off and started again, it continues; effcompile record turns NAME.sqlite into a recording.

    Example: effcompile bench workloads --out measured.sqlite --seconds 540 --only mm-1024
    """
    from effcompile.bench.record_workloads import record_workloads, recording_config
    from effcompile.bench.workload_set import workload_set
    from effcompile.cli.options import merged
    from effcompile.config import preset

    if names:
        _print_names(list(workload_set()), json)
        return
    config = merged(preset("quick"), {"measure": {"meter": meter}}, "the command line")
    rows = record_workloads(
        out,
        seconds=seconds,
        names=only or (),
        n_energies=energies,
        config=recording_config(config, n_trials=trials),
        target=target,
        work=work,
    )
    _print(rows, json)


@app.command()
def peers(
    run: Annotated[Path, typer.Argument(help="Run folder whose references are still there.")],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Receives a copy of the run's database with the rows.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="No task is begun afterwards.", min=1)] = 60.0,
    json: Json = False,
) -> None:
    """The vendor's libraries on the tasks of a run: same inputs, clock and meter; needs torch.

    The rows are kept in the run's database, and in recordings of it.

    Example: effcompile bench peers runs/bench-workloads --out measured.sqlite
    """
    from effcompile.bench.peers import measure_peers
    from effcompile.bench.record_workloads import copy_database
    from effcompile.run_folder import RunFolder

    folder = RunFolder(run)
    rows = measure_peers(folder, seconds=seconds)
    if out is not None:
        copy_database(folder.database_path, out)
    _print(rows, json)


@app.command()
def meter(
    *,
    rounds: Annotated[int, typer.Option(help="Windows of one second per kernel.", min=2)] = 20,
    minutes: Annotated[float, typer.Option(help="Spread the rounds over so long.", min=0)] = 0.0,
    work: Work = Path("runs/bench-meter"),
    json: Json = False,
) -> None:
    """How far this GPU's energy meter can be trusted: repeatability, and against a naive reading.

    Example: effcompile bench meter --rounds 20
    """
    from effcompile.bench.meter_precision import bench_meter

    work.mkdir(parents=True, exist_ok=True)
    found = bench_meter(
        work, n_rounds=rounds, minutes=minutes, watch=lambda row: print_rows([row], to_stderr=True)
    )
    if json:
        print_json(found)
        return
    print_rows(found.repeatability)
    print_rows(found.agreement)


def _print_names(names: list[str], json: bool) -> None:
    if json:
        print_json(names)
    else:
        print_text("\n".join(names))


def _print(rows: list[Any], json: bool) -> None:
    if json:
        print_json(rows)
    else:
        print_rows(rows)

"""Benchmarks: ``bench tuner``, ``bench softmax``, ``bench search``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from effcompile.cli.output import print_json, print_rows
from effcompile.cli.tune_commands import Json

app = typer.Typer(help="Ours and the strongest peers on the same work, measured in one run.")

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
        workload, n_trials=trials, target=detect_target(target), work=work, stock=stock
    )
    _print(rows, json)


@app.command()
def softmax(
    *,
    trials: Annotated[int, typer.Option(help="Trials per shape.", min=1)] = 96,
    rounds: Annotated[int, typer.Option(help="Interleaved repetitions.", min=1)] = 5,
    shape: Annotated[
        list[str] | None, typer.Option(help="ROWSxCOLUMNSxDTYPE; may be repeated.")
    ] = None,
    cache: Annotated[str, typer.Option(help="hot or cold.")] = "cold",
    work: Work = Path("runs/bench-softmax"),
    json: Json = False,
) -> None:
    """The softmax family, tuned here, against torch.softmax and Inductor.

    Example: effcompile bench softmax --shape 8192x4096xfloat32
    """
    from effcompile.bench.softmax_peers import SHAPES, bench_softmax
    from effcompile.cli.options import merged
    from effcompile.config import preset

    overrides: dict[str, Any] = {"search": {"n_trials": trials}, "measure": {"cache": cache}}
    config = merged(preset("quick"), overrides, "the command line")
    measure = replace(config.measure, energy_window_ms=1000.0, energy_precision=0.0, n_repeats=20)
    shapes = [_shape(text) for text in shape] if shape else list(SHAPES)
    rows = bench_softmax(shapes, config=config, measure=measure, work=work, n_rounds=rounds)
    _print(rows, json)


@app.command()
def search(
    *,
    device: Annotated[str, typer.Option(help="replay:NAME or replay:FILE.")],
    trials: Annotated[int, typer.Option(help="Trials of each search.", min=1)] = 256,
    seeds: Annotated[int, typer.Option(help="Searches of each kind, seeds 0, 1, ...", min=1)] = 3,
    max_slowdown: Annotated[
        str, typer.Option(help="Latency that may be given up for energy, 2% or 0.02.")
    ] = "2%",
    only: Annotated[
        list[str] | None, typer.Option(help="Way to search, for example snr; may be repeated.")
    ] = None,
    json: Json = False,
) -> None:
    """Ways to search for low energy on a recorded device: what they find, what they spend.

    Example: effcompile bench search --device replay:h200 --trials 256 --seeds 3
    """
    from effcompile.bench.search_compare import CONTENDERS, bench_search
    from effcompile.cli.options import merged, parse_share
    from effcompile.config import preset
    from effcompile.errors import UsageError
    from effcompile.recordings import REPLAY
    from effcompile.replaying import open_recording

    if not device.startswith(REPLAY):
        raise UsageError(f"unknown --device {device!r}: expected replay:NAME or replay:FILE.")
    settings = {"n_trials": trials, "max_slowdown": parse_share(max_slowdown, "--max-slowdown")}
    rows = bench_search(
        open_recording(device.removeprefix(REPLAY)),
        config=merged(preset("normal"), {"search": settings}, "the command line"),
        seeds=range(seeds),
        names=only or list(CONTENDERS),
        watch=lambda text: typer.echo(text, err=True),
    )
    if json:
        print_json(rows)
    else:
        print_rows([replace(row, outcomes=()) for row in rows])


def _shape(text: str) -> tuple[int, int, str]:
    from effcompile.errors import UsageError

    parts = text.split("x")
    if len(parts) != 3 or not (parts[0].isdigit() and parts[1].isdigit()):
        raise UsageError(f"cannot read --shape {text!r}: expected 8192x4096xfloat32.")
    return int(parts[0]), int(parts[1]), parts[2]


def _print(rows: list[Any], json: bool) -> None:
    if json:
        print_json(rows)
    else:
        print_rows(rows)

"""Commands that lead from a model to a tuned run: ``export`` and ``tune``."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast

import typer

from effcompile.cli.contradictions import (
    refuse_beside_predictions,
    refuse_beside_replay,
    require_replay,
)
from effcompile.cli.options import merged, parse_shapes, parse_share, read_config
from effcompile.cli.output import print_json, print_note, print_text
from effcompile.config import Effort, TuneConfig, preset

if TYPE_CHECKING:
    from effcompile.tuning import Run
    from search.events import Events
    from search.stopping import StopRequest

STOPPED_EARLY = 3
"""Exit status of a run that was stopped on request: what it found so far can be built."""

INTERRUPTED = 130
"""Exit status of a command that was interrupted before it had anything to show."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


class Start(Protocol):
    """Tuning with everything decided but who watches and who may stop it."""

    def __call__(self, *, events: Events, stop: StopRequest) -> Run:
        """Tune."""


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(export)
    app.command()(tune)


def export(
    source: Annotated[str, typer.Argument(help="file.py:function; it returns (module, inputs).")],
    out: Annotated[Path, typer.Option(help="ONNX file to write.")],
    save_inputs: Annotated[
        Path | None, typer.Option(help="Folder for the example inputs, one NAME.npy each.")
    ] = None,
    json: Json = False,
) -> None:
    """PyTorch model to a checked ONNX file.

    Example: effcompile export examples/transformer_block.py:build --out block.onnx
    """
    from effcompile.export import export_module
    from effcompile.frontend.dimensions import data_inputs, declared_shape
    from effcompile.model_source import load_builder
    from effcompile.onnx_files import write_onnx
    from effcompile.output_files import check_output

    check_output(out)
    if save_inputs is not None:
        _make_folder(save_inputs)
    loaded = load_builder(source)
    model = export_module(
        loaded.module, loaded.example_inputs, dynamic_shapes=loaded.dynamic_shapes
    )
    write_onnx(model, out)
    inputs = {value.name: declared_shape(value) for value in data_inputs(model)}
    if save_inputs is not None:
        _save_inputs(save_inputs, list(inputs), loaded.example_inputs)
    if json:
        print_json({"path": out, "inputs": inputs, "n_nodes": len(model.graph.node)})
    else:
        shown = ", ".join(f"{name} {shape}" for name, shape in inputs.items())
        print_text(f"wrote {out}: {len(model.graph.node)} nodes, inputs {shown}")


def _save_inputs(folder: Path, names: list[str], inputs: tuple[Any, ...]) -> None:
    from effcompile.arrays import numpy_of, tensors_in, write_array
    from effcompile.errors import UsageError

    values = tensors_in(inputs)
    if len(values) != len(names):
        raise UsageError(
            f"cannot save the example inputs: {len(values)} tensors are given, the exported model "
            f"takes {len(names)}: {', '.join(names)}. Leave --save-inputs out."
        )
    for name, value in zip(names, values, strict=True):
        write_array(folder / f"{name}.npy", numpy_of(value))


def _make_folder(folder: Path) -> None:
    from effcompile.errors import UsageError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot make the folder {folder}: {error.strerror}. Choose another --save-inputs."
        ) from error


def tune(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="ONNX file, or NAME=FILE for each of several entry points."),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Run folder; the same command again resumes it.")],
    target: Annotated[
        str, typer.Option(help="auto, cpu, cuda, or a known GPU such as h200.")
    ] = "auto",
    device: Annotated[
        str | None,
        typer.Option(help="replay:NAME or replay:FILE tunes recorded workloads without a GPU."),
    ] = None,
    effort: Annotated[str, typer.Option(help="quick, normal or thorough: presets.")] = "normal",
    trials: Annotated[int | None, typer.Option(help="Trials over all tasks.", min=1)] = None,
    max_slowdown: Annotated[
        str | None, typer.Option(help="Latency that may be given up for energy, 2% or 0.02.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the search.", min=0)] = None,
    strategy: Annotated[str | None, typer.Option(help="evolutionary or random.")] = None,
    energy_policy: Annotated[
        str | None,
        typer.Option(help="Who is metered: worth, top, snr, overlap, measure_all or never."),
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option(help="device, or none: run nothing, predict for a known --target."),
    ] = None,
    meter: Annotated[
        str | None, typer.Option(help="Energy meter: auto, nvml, rapl or none.")
    ] = None,
    cache: Annotated[
        str | None, typer.Option(help="hot (same buffers) or cold (rotating over twice the L2).")
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="Fix an input: NAME=EXTENT,EXTENT,...")
    ] = None,
    keep_dynamic: Annotated[
        bool, typer.Option(help="Keep open dimensions; kernels that see them are not tuned.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    print_config: Annotated[bool, typer.Option(help="Print the settings and stop.")] = False,
    json: Json = False,
) -> None:
    """Search schedules for low energy at low latency; resumable, safe to interrupt.

    With --measure none no GPU is needed: candidates are compiled, and latency and energy
    predicted by the models shipped for the target.

    Example: effcompile tune block.onnx --trials 256 --max-slowdown 2% --out runs/block
    """
    overrides: dict[str, dict[str, Any]] = {"search": {}, "measure": {}}
    given = {
        "n_trials": trials,
        "seed": seed,
        "strategy": strategy,
        "energy_policy": energy_policy,
    }
    overrides["search"] = {name: value for name, value in given.items() if value is not None}
    if max_slowdown is not None:
        overrides["search"]["max_slowdown"] = parse_share(max_slowdown, "--max-slowdown")
    measuring = {"source": measure, "meter": meter, "cache": cache}
    overrides["measure"] = {name: value for name, value in measuring.items() if value is not None}
    if measure == "none":
        refuse_beside_predictions(meter=meter, energy_policy=energy_policy)
    settings = _settings(effort, config, overrides)
    if print_config:
        print_json(settings)
        return
    from effcompile.given_models import named_models
    from effcompile.tuning import tune_models

    start: Start
    if device is not None:
        require_replay(device)
        refuse_beside_replay(
            models=models,
            shape=shape,
            keep_dynamic=keep_dynamic,
            measure=measure,
            meter=meter,
            cache=cache,
            target=target,
        )
        start = partial(_start_replay, device, out, config=settings)
    else:
        start = partial(
            tune_models,
            named_models(models or []),
            out,
            target=target,
            config=settings,
            shapes=parse_shapes(shape or []),
            keep_dynamic=keep_dynamic,
        )
    _run_tuning(start, out, json=json)


def _start_replay(
    device: str, out: Path, *, config: TuneConfig, events: Events, stop: StopRequest
) -> Run:
    from effcompile.recordings import REPLAY
    from effcompile.replaying import tune_recorded

    return tune_recorded(device.removeprefix(REPLAY), out, config=config, events=events, stop=stop)


def _settings(effort: str, file: Path | None, overrides: dict[str, dict[str, Any]]) -> TuneConfig:
    from effcompile.errors import UsageError

    if effort not in ("quick", "normal", "thorough"):
        raise UsageError(f"unknown --effort {effort!r}: expected quick, normal or thorough.")
    settings = preset(cast(Effort, effort))
    if file is not None:
        settings = merged(settings, read_config(file), str(file))
    return merged(settings, overrides, "the command line")


def _run_tuning(start: Start, out: Path, *, json: bool) -> None:
    from effcompile.cli.progress import progress_display
    from search.stopping import StopRequest, stop_on_interrupt

    stop = StopRequest(_say_stopping)
    try:
        with stop_on_interrupt(stop), progress_display() as events:
            run = start(events=events, stop=stop)
    except KeyboardInterrupt:
        raise typer.Exit(_stopped_at_once(out)) from None
    if json:
        print_json(run)
    else:
        origin = f"; PREDICTED by {run.predicted_by}, nothing was run" if run.predicted_by else ""
        print_text(f"{run.path}: ended by {run.stopped_by}{origin}; effcompile report {run.path}")
    if run.stopped_by == "request":
        raise typer.Exit(STOPPED_EARLY)


def _say_stopping() -> None:
    # Called from a signal handler, which must not touch Python's buffers.
    os.write(2, b"stopping after the current trial; Ctrl-C again stops at once\n")


def _stopped_at_once(out: Path) -> int:
    from effcompile.outcome import read_outcome
    from schedules.errors import EffcompileError

    try:
        read_outcome(out)
    except EffcompileError:
        print_note(f"stopped before a run was recorded in {out}.")
        return INTERRUPTED
    print_note(
        f"stopped at once; every finished trial is kept in {out}. The same command continues, "
        f"and effcompile build {out} takes the best so far."
    )
    return STOPPED_EARLY

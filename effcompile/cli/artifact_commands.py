"""Commands that make and use artifacts: ``build``, ``run``, ``verify``, ``measure``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from effcompile.cli.options import parse_pairs, parse_share
from effcompile.cli.output import print_json, print_note, print_text
from effcompile.cli.tune_commands import Json
from effcompile.config import MeterName
from effcompile.errors import UsageError

Dim = Annotated[list[str] | None, typer.Option(help="Extent of an open dimension, T=64.")]
Entry = Annotated[str | None, typer.Option(help="Entry point; needed only if there are several.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(build)
    app.command()(run)
    app.command()(verify)
    app.command()(measure)


def build(
    runs: Annotated[list[Path], typer.Argument(help="Run folder, or several for one artifact.")],
    out: Annotated[Path, typer.Option(help="Artifact to write.")],
    budget: Annotated[
        str | None,
        typer.Option(help="Share the whole network may be slower for energy, 2%; else per task."),
    ] = None,
    measure: Annotated[
        bool, typer.Option(help="Measure default against tuned module, if the device is here.")
    ] = True,
    json: Json = False,
) -> None:
    """Best schedules of a run to one artifact that loads without a compiler.

    Example: effcompile build runs/block --out block.effc
    """
    from effcompile.building import build_artifact
    from effcompile.outcome import network_choices

    choices = None
    if budget is not None:
        choices = network_choices(runs, max_slowdown=parse_share(budget, "--budget"))
    manifest = build_artifact(runs, out, measure=measure, choices=choices)
    if json:
        print_json(manifest)
        return
    tuned = sum(workload.space != "default" for workload in manifest.workloads)
    print_text(
        f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB): entry points "
        f"{', '.join(entry.name for entry in manifest.entries)}; "
        f"{tuned} of {len(manifest.workloads)} workloads with a tuned schedule"
        + (f"; PREDICTED by {manifest.predicted_by}" if manifest.predicted_by else "")
    )


def run(
    artifact: Annotated[Path, typer.Argument(help="Artifact made by build.")],
    input: Annotated[list[str], typer.Option(help="NAME=FILE.npy, once per input.")],
    output: Annotated[
        list[str], typer.Option(help="FILE.npy for a single output, else NAME=FILE.npy each.")
    ],
    entry: Entry = None,
    json: Json = False,
) -> None:
    """Execute an artifact on given inputs.

    Example: effcompile run block.effc --input x=x.npy --output y.npy
    """
    from schedules._tvm import hide_torch

    hide_torch()
    from effcompile.arrays import read_array, write_array
    from effcompile.output_files import check_output
    from effcompile.runtime import load
    from effcompile.signature import chosen_entry

    module = load(artifact)
    chosen = chosen_entry(module.signature, entry)
    dtypes = {spec.name: spec.dtype for spec in chosen.inputs}
    given = parse_pairs(input, "--input", [spec.name for spec in chosen.inputs])
    arrays = {key: read_array(path, dtypes.get(key, "")) for key, path in given.items()}
    targets = _output_paths(output, [spec.name for spec in chosen.outputs])
    for path in targets.values():
        check_output(path)
    by_name = module.function(chosen.name).named(**arrays)
    for key, path in targets.items():
        write_array(path, by_name[key])
    written = {key: {"path": path, "shape": by_name[key].shape} for key, path in targets.items()}
    if json:
        print_json(written)
    else:
        for key, path in targets.items():
            print_text(f"{key} {by_name[key].shape} {by_name[key].dtype} -> {path}")


def _output_paths(texts: list[str], names: list[str]) -> dict[str, Path]:
    if len(names) == 1 and len(texts) == 1 and "=" not in texts[0]:
        return {names[0]: Path(texts[0])}
    paths = parse_pairs(texts, "--output", names)
    unknown = sorted(set(paths) - set(names))
    if unknown:
        raise UsageError(
            f"no output named {', '.join(unknown)}: the outputs are {', '.join(names)}."
        )
    return paths


def verify(
    artifact: Annotated[Path, typer.Argument(help="Artifact made by build.")],
    against: Annotated[str, typer.Option(help="model.onnx, or file.py:function for PyTorch.")],
    *,
    entry: Entry = None,
    seed: Annotated[int, typer.Option(help="Seed of the inputs.", min=0)] = 0,
    dim: Dim = None,
    json: Json = False,
) -> None:
    """Compare an artifact's outputs with PyTorch or with ONNX's reference on seeded inputs.

    Example: effcompile verify block.effc --against examples/transformer_block.py:build
    """
    from effcompile.verification import verify_artifact_outputs

    comparisons = verify_artifact_outputs(
        artifact, against, entry=entry, seed=seed, dims=_dims(dim or [])
    )
    if json:
        print_json(comparisons)
    else:
        for comparison in comparisons:
            print_text(comparison.text())
    if not all(comparison.is_equal for comparison in comparisons):
        raise typer.Exit(1)


def measure(
    artifact: Annotated[Path, typer.Argument(help="Artifact made by build.")],
    *,
    entry: Entry = None,
    versus: Annotated[Path | None, typer.Option(help="Artifact to measure in turn with.")] = None,
    rounds: Annotated[int, typer.Option(help="Repetitions, interleaved.", min=1)] = 5,
    dim: Dim = None,
    meter: Annotated[str, typer.Option(help="auto, nvml, rapl or none.")] = "auto",
    json: Json = False,
) -> None:
    """Latency and energy of a whole artifact, with 95 % intervals.

    Example: effcompile measure block.effc
    """
    from effcompile.config import MeasureConfig
    from effcompile.measuring import measure_artifacts

    if meter not in get_args(MeterName):
        raise UsageError(f"unknown --meter {meter!r}: expected {', '.join(get_args(MeterName))}.")
    paths = [artifact] if versus is None else [artifact, versus]
    measured = measure_artifacts(
        paths,
        entry=entry,
        n_rounds=rounds,
        dims=_dims(dim or []),
        config=MeasureConfig(meter=cast(MeterName, meter)),
    )
    if json:
        print_json(measured)
    else:
        for one in measured:
            if one.measurement is not None:
                print_text(one.text())
    failed = [one for one in measured if one.measurement is None]
    for one in failed:
        print_note(f"error: {one.text()}")
    if failed:
        raise typer.Exit(1)


def _dims(texts: list[str]) -> dict[str, int]:
    dims = {}
    for text in texts:
        name, equals, extent = text.partition("=")
        if not equals or not name or not extent.isdigit() or int(extent) < 1:
            raise UsageError(f"cannot read --dim {text!r}: expected NAME=EXTENT, such as T=64.")
        dims[name] = int(extent)
    return dims

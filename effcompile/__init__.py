"""Compiler-based kernel autotuner: compiled modules that use less energy at low latency.

::

    import effcompile
    run = effcompile.tune(model, example_inputs=(x,), target="auto", trials=256)
    module = effcompile.build(run, "block.effc")
    y = module(x)                              # NumPy or torch in, the same kind out
    module = effcompile.load("block.effc")

Importing this package loads nothing heavy; each stage imports what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from effcompile.config import TuneConfig
    from effcompile.runtime import Module
    from effcompile.tuning import Run

__version__ = "0.1.0"
__all__ = ["build", "load", "tune"]


def tune(
    model: Any,
    *,
    example_inputs: Sequence[Any] | None = None,
    target: str = "auto",
    trials: int | None = None,
    max_slowdown: float | None = None,
    out: str | Path | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    keep_dynamic: bool = False,
    config: TuneConfig | None = None,
) -> Run:
    """Search schedules for a model; the same call again continues where it stopped.

    Args:
        model: ``torch.nn.Module`` (then ``example_inputs`` is needed), ONNX file,
            ``onnx.ModelProto``, or a mapping from entry-point names to these.
        example_inputs: Positional inputs of one call of a torch module; for a mapping, a
            mapping of the same names.
        target: ``auto`` (CUDA GPU if there is one, else this CPU), ``cpu``, ``cuda``, or a
            known GPU such as ``h200``.
        trials: Trials over all tasks.
        max_slowdown: Share of latency that may be given up for energy, 0.02 for 2 %.
        out: Run folder; by default ``runs/`` and the model's name.
        shapes: Input name to extents, for open dimensions.
        keep_dynamic: Leave open dimensions open; kernels that see them are not tuned.
        config: All other settings.

    Returns:
        The run; give it to :func:`build`.
    """
    from effcompile.calls import tune_any

    return tune_any(
        model,
        example_inputs,
        target=target,
        trials=trials,
        max_slowdown=max_slowdown,
        out=out,
        shapes=shapes,
        keep_dynamic=keep_dynamic,
        config=config,
    )


def build(
    run: Run | str | Path | list[Run | str | Path], out: str | Path, *, measure: bool = True
) -> Module:
    """Compile the best schedules of one or several runs into one artifact, and load it.

    Args:
        run: A run, its folder, or several whose models become entry points.
        out: Artifact to write.
        measure: Measure default and tuned module in turn, if the device is here.
    """
    from effcompile.building import build_artifact

    given = run if isinstance(run, list) else [run]
    folders = [Path(one) if isinstance(one, (str, Path)) else one.path for one in given]
    build_artifact(folders, Path(out), measure=measure)
    return load(out)


def load(path: str | Path, device: str = "auto") -> Module:
    """Load an artifact with the runtime libraries alone.

    Args:
        path: Artifact made by :func:`build`.
        device: ``auto``, ``cpu``, or ``cuda:N``.
    """
    from effcompile.runtime import load as load_artifact

    return load_artifact(path, device)

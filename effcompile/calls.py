"""What Python callers may hand to ``effcompile.tune``, brought into one form."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from effcompile.config import TuneConfig
from effcompile.errors import UsageError
from effcompile.tuning import Run, tune_models


def tune_any(
    model: Any,
    example_inputs: Any,
    *,
    target: str,
    trials: int | None,
    max_slowdown: float | None,
    out: str | Path | None,
    shapes: Mapping[str, Sequence[int]] | None,
    keep_dynamic: bool,
    config: TuneConfig | None,
) -> Run:
    """See :func:`effcompile.tune`."""
    config = config or TuneConfig()
    given = {"n_trials": trials, "max_slowdown": max_slowdown}
    changes = {name: value for name, value in given.items() if value is not None}
    search: Any = replace(config.search, **changes)  # type: ignore[arg-type]
    if isinstance(model, Mapping):
        inputs = example_inputs or {}
        models = {name: _onnx_of(each, inputs.get(name)) for name, each in model.items()}
    else:
        models = {"main": _onnx_of(model, example_inputs)}
    return tune_models(
        models,
        Path(out) if out is not None else Path("runs") / _name_of(model),
        target=target,
        config=replace(config, search=search),
        shapes=shapes,
        keep_dynamic=keep_dynamic,
    )


def _onnx_of(model: Any, example_inputs: Sequence[Any] | None) -> Any:
    """An ONNX path or ``ModelProto`` as it is, a torch module exported."""
    if isinstance(model, (str, os.PathLike)) or type(model).__name__ == "ModelProto":
        return model
    if example_inputs is None:
        raise UsageError(
            f"example_inputs is missing: exporting a {type(model).__name__} needs the inputs of "
            "one call, for example example_inputs=(x,)."
        )
    from effcompile.export import export_module

    return export_module(model, example_inputs)


def _name_of(model: Any) -> str:
    if isinstance(model, (str, os.PathLike)):
        return Path(model).stem
    if isinstance(model, Mapping):
        return "_".join(model)
    return type(model).__name__.lower()

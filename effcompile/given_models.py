"""The models that a run is given: named, checked, of fixed shapes, and kept in the run folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from effcompile.errors import UsageError
from effcompile.run_folder import RunFolder


def named_models(texts: Sequence[str]) -> dict[str, Path]:
    """``["block.onnx"]`` as ``{"main": ...}``, ``["a=x.onnx", "b=y.onnx"]`` by name.

    Raises:
        UsageError: None, several files without names, or a name given twice.
    """
    if not texts:
        raise UsageError("no model is given: name an ONNX file, or --device replay:NAME.")
    if len(texts) == 1 and texts[0] and "=" not in texts[0]:
        return {"main": Path(texts[0])}
    models: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not path or not name.isidentifier() or name in models:
            raise UsageError(
                f"cannot read the model argument {text!r}: expected FILE.onnx; several "
                "models need distinct names, as in prefill=prefill.onnx decode=decode.onnx."
            )
        models[name] = Path(path)
    return models


def prepared(
    models: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], *, keep_dynamic: bool
) -> dict[str, Any]:
    """Models as they are lowered: loaded, checked, with the given extents.

    Args:
        models: Entry-point name to ONNX file or ``onnx.ModelProto``.
        shapes: Input name to extents; with several models, for those that have such an input.
        keep_dynamic: Whether dimensions may stay open.

    Raises:
        BadModel: A model is missing, damaged, open, or holds unknown operators.
        UsageError: No model has an input of a given name.
    """
    from effcompile.frontend.checking import load_model, prepare_model
    from effcompile.frontend.dimensions import check_dimensions, data_inputs, fix_shapes

    ready = {}
    used: set[str] = set()
    for name, model in models.items():
        is_file = isinstance(model, (str, os.PathLike))
        loaded = load_model(model) if is_file else prepare_model(model)
        names = {value.name for value in data_inputs(loaded)}
        own = shapes if len(models) == 1 else {k: v for k, v in shapes.items() if k in names}
        used |= set(own)
        loaded = fix_shapes(loaded, own)
        check_dimensions(loaded, allow_open=keep_dynamic)
        ready[name] = loaded
    if unknown := sorted(set(shapes) - used):
        raise UsageError(
            f"no model has an input named {', '.join(unknown)}: mend the name given with --shape."
        )
    return ready


def content_hash(lowered: Any) -> str:
    """Hash of program and weights, equal in every process for the same model file.

    Taken over serialised functions: the structural hash of a function that calls others
    depends on where in memory their names lie.
    """
    from schedules import _tvm

    tvm = _tvm.load()
    digest = hashlib.sha256(repr(lowered.entries).encode())
    for variable, function in sorted(
        lowered.module.functions_items(), key=lambda item: str(item[0].name_hint)
    ):
        digest.update(f"{variable.name_hint}:{tvm.ir.save_json(function)}".encode())
    return digest.hexdigest()[:32]


def keep_models(models: Mapping[str, Any], folder: RunFolder) -> None:
    """Write the models into the run folder, where building reads them.

    They are the same as when the run began; files that were lost or damaged since are mended.
    """
    from effcompile.onnx_files import write_onnx

    for name, model in models.items():
        write_onnx(model, folder.model_path(name))

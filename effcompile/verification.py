"""An artifact against the model it came from, on seeded inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from effcompile.arrays import numpy_of, tensors_in
from effcompile.errors import BadModel, UsageError
from effcompile.model_inputs import make_model_inputs
from effcompile.output_comparison import OutputComparison, compare_outputs
from effcompile.runtime import load
from effcompile.signature import EntryPoint, chosen_entry

Arrays = list[npt.NDArray[Any]]


def verify_artifact_outputs(
    path: Path,
    against: str,
    *,
    entry: str | None = None,
    seed: int = 0,
    dims: Mapping[str, int] | None = None,
) -> list[OutputComparison]:
    """Run the artifact and its reference on the same inputs and compare every output.

    Args:
        path: Artifact.
        against: ``model.onnx`` (run by ONNX's reference evaluator), or ``file.py:function``
            whose PyTorch module is run on its own example inputs.
        entry: Entry point; may be left out if there is only one.
        seed: Seed of the inputs of an ONNX reference.
        dims: Values of open dimensions, for an ONNX reference.

    Raises:
        BadArtifact: The artifact cannot be loaded.
        BadModel: The reference cannot be read, or does not run.
        UsageError: The reference has other inputs or outputs than the artifact.
    """
    module = load(path)
    chosen = chosen_entry(module.signature, entry)
    if against.endswith(".onnx"):
        inputs, reference = _onnx_reference(Path(against), chosen, seed, dims)
    else:
        inputs, reference = _torch_reference(against)
    found = module.function(chosen.name).named(*inputs)
    names = [spec.name for spec in chosen.outputs]
    if len(reference) != len(names):
        raise UsageError(
            f"{against} gives {len(reference)} outputs, {path} {len(names)}: {', '.join(names)}. "
            "Name the model that the artifact was made from."
        )
    return compare_outputs(names, [found[name] for name in names], reference)


def _onnx_reference(
    path: Path, entry: EntryPoint, seed: int, dims: Mapping[str, int] | None
) -> tuple[Arrays, Arrays]:
    from onnx.reference import ReferenceEvaluator

    from effcompile.frontend.checking import load_model
    from effcompile.frontend.dimensions import data_inputs

    model = load_model(path)
    expected, found = [spec.name for spec in entry.inputs], [v.name for v in data_inputs(model)]
    if expected != found:
        raise UsageError(
            f"{path} has the inputs {', '.join(found)}, the artifact {', '.join(expected)}. "
            "Name the model that the artifact was made from."
        )
    inputs = make_model_inputs(entry, seed, dims)
    feeds = dict(zip(expected, inputs, strict=True))
    try:
        outputs = ReferenceEvaluator(model).run(None, feeds)
    except Exception as error:  # the evaluator raises whatever NumPy does
        raise BadModel(
            f"{_not_run(str(path), error)} The reference evaluator of the onnx package does not "
            "cover every operator; compare with PyTorch: --against FILE.py:FUNCTION."
        ) from error
    return inputs, [np.asarray(value) for value in outputs]


def _torch_reference(reference: str) -> tuple[Arrays, Arrays]:
    import torch

    from effcompile.model_source import load_builder

    source = load_builder(reference)
    if not isinstance(source.module, torch.nn.Module):
        raise UsageError(
            f"{reference} gives a {type(source.module).__name__}, expected a torch.nn.Module."
        )
    try:
        with torch.inference_mode():
            outputs = source.module.eval()(*source.example_inputs)
    except Exception as error:  # the user's code may raise anything
        raise BadModel(_not_run(reference, error)) from error
    inputs, results = tensors_in(source.example_inputs), tensors_in(outputs)
    return [numpy_of(one) for one in inputs], [numpy_of(one) for one in results]


def _not_run(reference: str, error: Exception) -> str:
    cause = " ".join(str(error).split())[:300]
    return (
        f"{reference} does not run on the inputs of the artifact: {type(error).__name__}: {cause}."
    )

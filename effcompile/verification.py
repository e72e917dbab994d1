"""An artifact against the model it came from, on seeded inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from effcompile.model_inputs import make_model_inputs
from effcompile.runtime import load
from effcompile.signature import EntryPoint, chosen_entry
from effcompile.verify import OutputComparison, compare_outputs

Arrays = list[npt.NDArray[Any]]


def verify_artifact_outputs(
    path: Path, against: str, *, entry: str | None = None, seed: int = 0
) -> list[OutputComparison]:
    """Run the artifact and its reference on the same inputs and compare every output.

    Args:
        path: Artifact.
        against: ``model.onnx`` (run by ONNX's reference evaluator), or ``file.py:function``
            whose PyTorch module is run on its own example inputs.
        entry: Entry point; may be left out if there is only one.
        seed: Seed of the inputs of an ONNX reference.
    """
    module = load(path)
    chosen = chosen_entry(module.signature, entry)
    if against.endswith(".onnx"):
        inputs, reference = _onnx_reference(Path(against), chosen, seed)
    else:
        inputs, reference = _torch_reference(against)
    found = module.function(chosen.name).named(*inputs)
    names = [spec.name for spec in chosen.outputs]
    return compare_outputs(names, [found[name] for name in names], reference)


def _onnx_reference(path: Path, entry: EntryPoint, seed: int) -> tuple[Arrays, Arrays]:
    from onnx.reference import ReferenceEvaluator

    from effcompile.frontend.checking import load_model

    inputs = make_model_inputs(entry, seed)
    feeds = {spec.name: value for spec, value in zip(entry.inputs, inputs, strict=True)}
    outputs = ReferenceEvaluator(load_model(path)).run(None, feeds)
    return inputs, [np.asarray(value) for value in outputs]


def _torch_reference(reference: str) -> tuple[Arrays, Arrays]:
    import torch

    from effcompile.export import load_builder

    source = load_builder(reference)
    with torch.inference_mode():
        outputs = source.module.eval()(*source.example_inputs)
    outputs = outputs if isinstance(outputs, Sequence) else (outputs,)
    return [_numpy(value) for value in source.example_inputs], [_numpy(value) for value in outputs]


def _numpy(value: Any) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = value.detach().cpu().numpy()
    return array

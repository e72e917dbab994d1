"""Real models that the onnx package brings along, with their stored outputs."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from effcompile.frontend.checking import load_model


def light_model(name: str) -> tuple[Any, list[np.ndarray], np.ndarray]:
    """A model, its seeded input and the output that is stored beside it.

    The stored outputs belong to this input: a linear ramp over its elements.
    """
    folder = files(onnx) / "backend" / "test" / "data" / "light"
    with as_file(folder / f"light_{name}.onnx") as path:
        model = load_model(path)
    tensor = onnx.TensorProto.FromString((folder / f"light_{name}_output_0.pb").read_bytes())
    shape = [dim.dim_value for dim in _data_input(model).type.tensor_type.shape.dim]
    count = int(np.prod(shape))
    ramp = (np.arange(count).reshape(shape) / count).astype(np.float32)
    return model, [ramp], numpy_helper.to_array(tensor)


def _data_input(model: Any) -> Any:
    from effcompile.frontend.dimensions import data_inputs

    return data_inputs(model)[0]

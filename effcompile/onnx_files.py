"""Writes ONNX models to disk, of any size and as a whole."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import Any

from effcompile.output_files import check_output, writing

# Protobuf cannot serialise 2 GiB or more; names, shapes and nodes need the rest.
MAX_INLINE_BYTES = 2**31 - 2**27


def _payload_bytes(model: Any) -> int:
    """Bytes of the initialisers held inside the model, names apart."""
    return sum(_tensor_bytes(tensor) for tensor in model.graph.initializer)


def _tensor_bytes(tensor: Any) -> int:
    import onnx

    if tensor.data_type == onnx.TensorProto.STRING:
        return int(tensor.ByteSize())
    # Asking the message itself would serialise it.
    n_elements = math.prod(tensor.dims)
    return int(n_elements * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def write_onnx(model: Any, path: str | Path) -> None:
    """Write a model so that readers see the old file or the whole new one.

    Models above the 2 GiB limit of the format keep their initialisers in a file of
    the same name with ``.data`` appended.

    Raises:
        UsageError: The folder does not exist, or the path is one.
        OutputUnwritable: No space or no right to write.
    """
    path = Path(path)
    check_output(path)
    write = _write_inline if _payload_bytes(model) < MAX_INLINE_BYTES else _write_external
    with (
        writing(path),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder,
    ):
        for written in write(model, Path(folder) / path.name):
            os.replace(written, path.parent / written.name)


def _write_inline(model: Any, path: Path) -> list[Path]:
    with path.open("wb") as file:
        file.write(model.SerializeToString())
        _sync(file)
    return [path]


def _write_external(model: Any, path: Path) -> list[Path]:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    data = path.with_name(f"{path.name}.data")
    onnx.save_model(copy, str(path), save_as_external_data=True, location=data.name)
    for written in (data, path):
        with written.open("rb") as file:
            _sync(file)
    # The data must be in place before the file that refers to it.
    return [data, path]


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())

"""Arrays in ``.npy`` files, dtypes that NumPy lacks included.

NumPy stores a bfloat16 array as raw two-byte elements; whoever reads the file knows
from the signature of the module what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from effcompile.dtypes import dtype_named, is_extended
from effcompile.errors import BadInput
from effcompile.output_files import replacing


def read_array(path: Path, dtype: str = "") -> npt.NDArray[Any]:
    """Read one array.

    Args:
        path: File written by :func:`write_array` or ``numpy.save``.
        dtype: Name of the dtype that raw elements stand for.

    Raises:
        BadInput: No such file, or it holds something else than one array.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise BadInput(f"cannot read input {path}: expected a .npy file, found {found}.")
    try:
        with path.open("rb") as file:
            array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        cause = str(error).splitlines()[0]
        raise BadInput(
            f"cannot read input {path}: {cause}. Expected one array of numbers, written by "
            "numpy.save."
        ) from error
    if dtype and is_extended(dtype) and array.dtype.kind == "V":
        wanted = dtype_named(dtype)
        if wanted.itemsize == array.dtype.itemsize:
            return array.view(wanted)
    return array


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write one array under exactly this name.

    Raises:
        UsageError: The folder does not exist, or the path is one.
        OutputUnwritable: No space or no right to write.
    """
    with replacing(path) as file:
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def tensors_in(value: Any) -> list[Any]:
    """Tensors and arrays of nested lists, tuples and mappings, in the order an export gives them.

    Args:
        value: What a module takes or returns; anything without a dtype is left out.
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for one in value for tensor in tensors_in(one)]
    return [value] if hasattr(value, "dtype") else []


def numpy_of(tensor: Any) -> npt.NDArray[Any]:
    """The content of a torch tensor, whatever its dtype and device."""
    import torch

    name = str(tensor.dtype).removeprefix("torch.")
    host = tensor.detach().cpu().contiguous()
    if name == "bool" or not is_extended(name):
        plain: npt.NDArray[Any] = host.numpy()
        return plain
    dtype = dtype_named(name)
    bits = {1: torch.uint8, 2: torch.int16}[dtype.itemsize]
    extended: npt.NDArray[Any] = host.view(bits).numpy().view(dtype)
    return extended

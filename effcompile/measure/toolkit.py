"""Where the parts of a CUDA toolkit are: headers, ``nvcc``, ``ncu``, the runtime library.

Looks at the standard variables, at pip-installed toolkit parts, then at the usual
folder. Nothing is loaded here.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path


def _roots() -> Iterator[Path]:
    for variable in ("CUDA_PATH", "CUDA_HOME"):
        if os.environ.get(variable):
            yield Path(os.environ[variable])
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        yield Path(folder) / "cu13"
        yield Path(folder) / "cuda_runtime"
    yield Path("/usr/local/cuda")


@cache
def include_dirs() -> tuple[str, ...]:
    """Folders with the CUDA headers, the standard-library headers of device code included."""
    for root in _roots():
        for include in (root / "include", *root.glob("targets/*/include")):
            if (include / "cuda_fp16.h").is_file():
                cccl = include / "cccl"
                return (str(include), *([str(cccl)] if cccl.is_dir() else []))
    return ()


@cache
def nvcc_path() -> str | None:
    """The offline compiler, ``None`` if there is none."""
    return _program("nvcc")


def ncu_path() -> str | None:
    """Nsight Compute's command line, ``None`` if there is none."""
    return _program("ncu")


def _program(name: str) -> str | None:
    for root in _roots():
        if (root / "bin" / name).is_file():
            return str(root / "bin" / name)
    return shutil.which(name)


@cache
def runtime_library() -> str | None:
    """``libcudart.so.13``, which TVM's CUDA library links to; ``None`` if not found."""
    for root in _roots():
        for folder in ("lib", "lib64"):
            path = root / folder / "libcudart.so.13"
            if path.is_file():
                return str(path)
    return None

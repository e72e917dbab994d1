"""The runtime half of TVM, without its compiler and without ``import tvm``.

Loading an artifact needs two shared libraries and the foreign-function layer: about
5 MB and a tenth of a second, against 270 MB and seconds for the whole of TVM. A
process that has already imported TVM gets the libraries it has.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from effcompile.errors import DeviceUnavailable
from effcompile.measure import toolkit
from schedules._tvm import check_pins, without_importing_torch
from schedules.errors import BadPin

CPU_DEVICE_TYPE = 1
CUDA_DEVICE_TYPE = 2
_ATTRIBUTE_EXISTS = 0
_ATTRIBUTE_COMPUTE_VERSION = 4


@cache
def load_runtime() -> Any:
    """Load what every artifact needs and return the ``tvm_ffi`` package.

    Raises:
        BadPin: TVM is missing, or one of its packages has a version known not to work.
    """
    check_pins()
    with without_importing_torch():
        import tvm_ffi
    for name in ("libtvm_runtime.so", "libtvm_runtime_extra.so"):
        _open_library(_library_path(name))
    return tvm_ffi


@cache
def load_cuda_runtime() -> None:
    """Load what CUDA artifacts need on top.

    Raises:
        DeviceUnavailable: The CUDA driver or the CUDA runtime library is missing.
    """
    load_runtime()
    path = _library_path("libtvm_runtime_cuda.so")
    try:
        _open_library(path)
    except OSError as first:
        # Wheels put the CUDA runtime where the dynamic linker does not look.
        if bundled := toolkit.runtime_library():
            _open_library(Path(bundled))
        try:
            _open_library(path)
        except OSError:
            raise DeviceUnavailable(
                f"cannot use CUDA: {first}. Expected an NVIDIA driver and a CUDA 13 runtime. "
                "Check with: effcompile doctor"
            ) from first


def device_exists(device_type: int, index: int) -> bool:
    """Whether the runtime can reach a device; its library must be loaded."""
    return bool(runtime_function("GetDeviceAttr")(device_type, index, _ATTRIBUTE_EXISTS))


def compute_version(index: int) -> str:
    """Compute capability of a CUDA device, for example ``9.0``."""
    return str(
        runtime_function("GetDeviceAttr")(CUDA_DEVICE_TYPE, index, _ATTRIBUTE_COMPUTE_VERSION)
    )


@cache
def runtime_function(name: str) -> Any:
    """A global function of the runtime, such as ``TVMTensorCreateView``."""
    return load_runtime().get_global_func(f"runtime.{name}")


def _library_path(name: str) -> Path:
    # Finding the package does not run it.
    spec = importlib.util.find_spec("tvm")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        if (path := Path(folder) / "lib" / name).is_file():
            return path
    raise BadPin(
        f"the TVM runtime library {name} was not found in {folders}. "
        "Install the pinned apache-tvm again."
    )


def _open_library(path: Path) -> None:
    ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)

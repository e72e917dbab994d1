"""Lets a machine without a GPU driver put machine code into CUDA libraries.

TVM's CUDA part links to the driver library, though embedding machine code calls nothing
in it. Where the driver is missing, a stand-in of the same name, every function of which
reports "no device", is compiled once and loaded first. Only build processes do this.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from effcompile.measure import toolkit
from effcompile.measure.cache import user_cache_dir

_SYMBOLS = (
    "cuDeviceGetName",
    "cuFuncSetAttribute",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuInit",
    "cuLaunchKernelEx",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuTensorMapEncodeTiled",
)
_NO_DEVICE = 100
_DRIVER = "libcuda.so.1"


def prepare_driver() -> None:
    """Make TVM's CUDA part loadable; call before the first import of TVM.

    Does nothing where that is impossible (no C compiler, no CUDA runtime library);
    libraries then carry source instead of machine code.
    """
    if not _load(_DRIVER):
        stub = _stub_path()
        if stub is not None:
            _load(str(stub))
    runtime = toolkit.runtime_library()
    if runtime is not None:
        _load(runtime)


def _load(library: str) -> bool:
    with contextlib.suppress(OSError):
        ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
        return True
    return False


def _stub_path() -> Path | None:
    path = user_cache_dir() / "driver-stub-2" / _DRIVER
    compiler = shutil.which("cc") or shutil.which("gcc")
    if path.is_file() or compiler is None:
        return path if path.is_file() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source, library = Path(folder) / "stub.c", Path(folder) / _DRIVER
        source.write_text(
            "".join(f"int {name}(void) {{ return {_NO_DEVICE}; }}\n" for name in _SYMBOLS)
        )
        # The dynamic linker takes a loaded library of this name for the driver.
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{_DRIVER}", "-o", str(library)]
        done = subprocess.run([*command, str(source)], capture_output=True, check=False)
        if done.returncode != 0:
            return None
        os.replace(library, path)
    return path

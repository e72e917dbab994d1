"""The one door to TVM: version check, import workarounds, targets.

Every module that needs TVM calls :func:`load` first. Three facts of this TVM
release are handled here and nowhere else:

- ``apache-tvm-ffi`` newer than the pin crashes the process on serialisation, so the
  version is read from the package metadata before anything is imported.
- Parsing TVMScript calls ``inspect.stack()``, which resolves source lines of every
  loaded module; importing the tensor intrinsics takes half a minute that way. A
  walker that reads frames only makes it three seconds, and those of other devices are left out.
- ``tvm_ffi`` imports torch whenever torch is installed. It is hidden meanwhile, and for
  good in processes that never see a torch tensor: they start four times faster.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import Any

from schedules.errors import BadPin
from schedules.target import Target

TVM_PIN = "0.27.0.post1"
FFI_PIN = "0.1.14.post1"
_INTRINSICS = "tvm.s_tir.tensor_intrin"
GOOD_FFI = ("0.1.14.post0", FFI_PIN)


def check_pins() -> None:
    """Raise before a bad pair of packages can crash the process.

    Raises:
        BadPin: TVM is missing or of another release, or its FFI is one that crashes.
    """
    try:
        tvm_version = importlib.metadata.version("apache-tvm")
        ffi_version = importlib.metadata.version("apache-tvm-ffi")
    except importlib.metadata.PackageNotFoundError as error:
        raise BadPin(f"package {error.name} is not installed. {_install_hint()}") from None
    if not tvm_version.startswith("0.27."):
        raise BadPin(
            f"apache-tvm is {tvm_version}, expected {TVM_PIN}: its interfaces differ between "
            f"releases. {_install_hint()}"
        )
    if ffi_version not in GOOD_FFI:
        raise BadPin(
            f"apache-tvm-ffi is {ffi_version}, expected {FFI_PIN}: other builds crash when TVM "
            f"serialises an object. {_install_hint()}"
        )


def _install_hint() -> str:
    return f"Install: pip install apache-tvm=={TVM_PIN} apache-tvm-ffi=={FFI_PIN}"


@cache
def load() -> Any:
    """Import TVM with its compiler, once, and return the package.

    Raises:
        BadPin: See :func:`check_pins`.
    """
    check_pins()
    with without_importing_torch(), fast_parsing():
        import tvm
        import tvm.relax
    return tvm


@cache
def load_intrinsics(kind: str) -> Any:
    """Import TVM with the tensor intrinsics that schedule rules for a target and their traces name.

    Kept apart from :func:`load`: parsing them takes longer than importing TVM. Rules for CPUs name
    none.

    Args:
        kind: Of the target, ``cuda`` or ``llvm``.
    """
    tvm = load()
    _skip_parsing_every_intrinsic()
    if kind == "cuda":
        with fast_parsing():
            importlib.import_module(f"{_INTRINSICS}.cuda")
    return tvm


def _skip_parsing_every_intrinsic() -> None:
    """Put the package in place without its ``__init__``, which parses those of all devices.

    TVM's tuning contexts import it, whatever their rules name. Its modules are found as ever.
    """
    spec = importlib.util.find_spec(_INTRINSICS)
    assert spec is not None
    sys.modules.setdefault(_INTRINSICS, importlib.util.module_from_spec(spec))


@contextmanager
def without_importing_torch() -> Iterator[None]:
    """Keep ``tvm_ffi`` from importing torch, unless the process has it already.

    It would do so whenever torch is installed, which takes seconds and 200 MB. Tensors of a
    torch that is imported later still pass: they speak DLPack.
    """
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]


def hide_torch() -> None:
    """Make ``import torch`` fail in this process; call before the first TVM import."""
    if "torch" not in sys.modules:
        sys.modules["torch"] = None  # type: ignore[assignment]


@contextmanager
def fast_parsing() -> Iterator[None]:
    """Replace the slow stack inspection while TVMScript is parsed."""
    saved = inspect.stack, inspect.getouterframes
    inspect.stack = _frames_from_caller
    inspect.getouterframes = _frames_from
    try:
        yield
    finally:
        inspect.stack, inspect.getouterframes = saved


def _frames_from_caller(context: int = 1) -> list[inspect.FrameInfo]:
    return _frames_from(sys._getframe(1), context)


def _frames_from(frame: FrameType | None, context: int = 1) -> list[inspect.FrameInfo]:
    del context
    found = []
    while frame is not None:
        code = frame.f_code
        found.append(
            inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None)
        )
        frame = frame.f_back
    return found


@cache
def tvm_target(target: Target) -> Any:
    """The TVM target with every attribute that schedule rules and checks read."""
    tvm = load()
    if target.kind == "llvm":
        return tvm.target.Target({"kind": "llvm", "mcpu": target.arch, "num-cores": target.n_cores})
    return tvm.target.Target(
        {
            "kind": "cuda",
            "arch": target.arch,
            "max_threads_per_block": target.max_threads_per_block,
            "max_shared_memory_per_block": target.shared_memory_per_block_bytes,
            "thread_warp_size": target.warp_size,
            "registers_per_block": target.registers_per_block,
            "l2_cache_size_bytes": target.cache_bytes,
            "host": {"kind": "llvm"},
        }
    )

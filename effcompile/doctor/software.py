"""Checks of Python and its packages. Suspects are loaded in a child process only."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import re
import subprocess
import sys
from pathlib import Path

from effcompile.doctor.check import Check, fail, ok, warn
from schedules import _tvm
from schedules.errors import BadPin

OLDEST_PYTHON = (3, 10)
OLDEST_TORCH = (2, 10)
_PACKAGES = ("effcompile", "search", "cost_models", "schedules")
_CHILD_TIMEOUT_S = 120

# Serialising is what a bad FFI build dies of; it takes the process with it.
_TVM_TRIAL = """
import json, sys
sys.modules["torch"] = None
import tvm
text = tvm.ir.save_json(tvm.tirx.IntImm("int32", 3))
assert int(tvm.ir.load_json(text)) == 3
print(json.dumps({
    "version": tvm.__version__,
    "compiler": not tvm.base._RUNTIME_ONLY,
    "llvm": bool(tvm.runtime.enabled("llvm")),
}))
"""


def python() -> Check:
    """The interpreter."""
    found = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return fail("python", found, "Use Python 3.10 or newer.")
    return ok("python", found)


def one_installation() -> Check:
    """The four packages must come from one place: their names are common words."""
    name = "one installation"
    homes = {package: _home(package) for package in _PACKAGES}
    if len(set(homes.values())) == 1:
        return ok(name, f"all four packages in {homes['effcompile']}")
    listed = ", ".join(f"{package} in {home}" for package, home in homes.items())
    return fail(
        name,
        listed,
        "Another package of the same name hides ours. Uninstall it, or use a fresh environment.",
    )


def _home(package: str) -> str:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return "nowhere"
    return str(Path(spec.origin).parents[1])


def tvm_pins() -> Check:
    """Versions of TVM and of its foreign-function layer, read without importing either."""
    name = "tvm pins"
    found = f"apache-tvm {_version('apache-tvm')}, apache-tvm-ffi {_version('apache-tvm-ffi')}"
    try:
        _tvm.check_pins()
    except BadPin as error:
        return fail(name, found, str(error).rpartition(". ")[2])
    return ok(name, found)


def tvm_works() -> Check:
    """A child process imports TVM, serialises an object, and looks for the compiler."""
    name = "tvm compiler"
    child = subprocess.run(
        [sys.executable, "-c", _TVM_TRIAL],
        capture_output=True,
        text=True,
        timeout=_CHILD_TIMEOUT_S,
        check=False,
    )
    advice = f"Install: pip install apache-tvm=={_tvm.TVM_PIN} apache-tvm-ffi=={_tvm.FFI_PIN}"
    if child.returncode != 0:
        told = (child.stderr.strip().splitlines() or ["no message"])[-1]
        return fail(name, f"a trial process ended with {child.returncode}: {told}", advice)
    found = json.loads(child.stdout.splitlines()[-1])
    if not found["compiler"] or not found["llvm"]:
        return fail(
            name,
            f"TVM {found['version']} without its compiler library: artifacts run, nothing is tuned",
            advice,
        )
    return ok(name, f"TVM {found['version']} compiles with LLVM and serialises")


def torch() -> Check:
    """PyTorch exports modules; ONNX files are tuned without it."""
    found = _version("torch")
    if found == "missing":
        return warn("torch", found, "ONNX files can be tuned; to export modules install torch.")
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:2])
    if numbers < OLDEST_TORCH:
        return fail("torch", found, "Install torch 2.10 or newer: its ONNX exporter is needed.")
    return ok("torch", found)


def onnx() -> Check:
    """The model format and the exporter's back end."""
    found = f"onnx {_version('onnx')}, onnxscript {_version('onnxscript')}"
    if "missing" in found:
        return fail("onnx", found, "Install: pip install onnx onnxscript")
    return ok("onnx", found)


def xgboost() -> Check:
    """The learner behind the cost models, in one of its two packages."""
    versions = {name: _version(name) for name in ("xgboost-cpu", "xgboost")}
    present = [f"{name} {version}" for name, version in versions.items() if version != "missing"]
    if not present:
        return fail("xgboost", "missing", "Install: pip install xgboost-cpu")
    if len(present) == 2:
        return warn(
            "xgboost",
            " and ".join(present),
            "Both install the same files. Keep one: pip uninstall xgboost xgboost-cpu, then "
            "pip install xgboost-cpu",
        )
    return ok("xgboost", present[0])


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"

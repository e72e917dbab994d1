"""schedules <- cost_models <- search <- effcompile, and what each may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = ("schedules", "cost_models", "search", "effcompile")
HEAVY = ("tvm", "tvm_ffi", "torch", "pynvml", "onnx", "cuda")
PLAIN_SCHEDULES = ("candidate", "errors", "space", "stats", "target", "task", "workload")


def modules_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported_by(path: Path) -> set[str]:
    """Top-level names of every import, also of those inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; import absolutely"
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("package", ORDER)
def test_no_package_imports_one_that_comes_after_it(package: str) -> None:
    later = set(ORDER[ORDER.index(package) + 1 :])
    wrong = {str(path): imported_by(path) & later for path in modules_of(package)}
    assert {path: names for path, names in wrong.items() if names} == {}


@pytest.mark.parametrize("package", ["cost_models", "search"])
def test_search_and_cost_models_name_no_compiler_and_no_driver(package: str) -> None:
    wrong = {str(path): imported_by(path) & set(HEAVY) for path in modules_of(package)}
    assert {path: names for path, names in wrong.items() if names} == {}


def module_names() -> list[str]:
    names = [f"schedules.{name}" for name in PLAIN_SCHEDULES]
    for package in ("cost_models", "search"):
        names += [f"{package}.{path.stem}" for path in modules_of(package)]
    return [name.removesuffix(".__init__") for name in names]


SCRIPT = """
import importlib, os, sys, threading
for name in sys.argv[1].split(","):
    importlib.import_module(name)
    loaded = {one.split(".")[0] for one in sys.modules} & set(sys.argv[2].split(","))
    assert not loaded, f"{name} loads {sorted(loaded)}"
assert threading.active_count() == 1, "importing started a thread"
"""


def test_importing_search_and_cost_models_loads_nothing_heavy() -> None:
    heavy = ",".join((*HEAVY, "xgboost", "scipy"))
    command = [sys.executable, "-c", SCRIPT, ",".join(module_names()), heavy]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_whole_search_loads_no_compiler_and_no_driver(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom tests.search.kill_driver import main\n"
        "main(Path(sys.argv[1]), 0.0)\n"
        "loaded = {one.split('.')[0] for one in sys.modules} & set(sys.argv[2].split(','))\n"
        "assert not loaded, sorted(loaded)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), ",".join(HEAVY)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

"""Python 3.10 is enough: nothing is imported that its standard library lacks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("schedules", "cost_models", "search", "effcompile", "examples", "scripts")
NEWER_MODULES = {"tomllib", "wsgiref.types"}
NEWER_NAMES = {
    "typing": {"Self", "Never", "LiteralString", "Required", "NotRequired", "Unpack", "override"}
    | {"TypeVarTuple", "assert_never", "assert_type", "reveal_type", "dataclass_transform"},
    "enum": {"StrEnum", "ReprEnum", "EnumCheck", "verify", "member", "nonmember"},
    "datetime": {"UTC"},
    "contextlib": {"chdir"},
    "itertools": {"batched"},
    "math": {"cbrt", "exp2", "sumprod"},
    "hashlib": {"file_digest"},
    "asyncio": {"TaskGroup", "Runner", "timeout"},
}


def newer_imports(source: str) -> set[str]:
    """What a module imports that Python 3.10 does not have."""
    found = set()
    for node in ast.walk(ast.parse(source, feature_version=(3, 10))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = {alias.name for alias in node.names}
            found |= {node.module} & NEWER_MODULES
            found |= {f"{node.module}.{one}" for one in names & NEWER_NAMES.get(node.module, set())}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & NEWER_MODULES
    return found


def test_newer_names_are_found() -> None:
    source = "from typing import Any, Self\nimport tomllib\nfrom datetime import UTC"
    assert newer_imports(source) == {"typing.Self", "tomllib", "datetime.UTC"}


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_newer_is_imported(package: str) -> None:
    paths = list((ROOT / package).rglob("*.py"))
    assert paths
    found = {str(path): newer_imports(path.read_text(encoding="utf-8")) for path in paths}
    assert {path: names for path, names in found.items() if names} == {}

"""Peers whose packages effcompile does not depend on."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from effcompile.errors import PeerNotInstalled


def installed(package: str, distribution: str) -> Any:
    """The package, imported.

    Args:
        package: Its name in Python.
        distribution: What ``pip install`` calls it.

    Raises:
        PeerNotInstalled: It is not there.
    """
    folder_of(package, distribution)
    return import_module(package)


def folder_of(package: str, distribution: str) -> Path:
    """Where the package lies; nothing of it is imported.

    Raises:
        PeerNotInstalled: It is not there.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise PeerNotInstalled(f"not installed: pip install {distribution}")
    return Path(spec.submodule_search_locations[0])

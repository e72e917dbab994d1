"""A trial that failed for want of space is not held against its candidate."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from search.disk_space import require_space
from search.errors import DiskFull


def test_nearly_full_disk_is_told_with_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10 * 1024))
    with pytest.raises(DiskFull, match=r"10 KiB free in .*, at least 1024 are needed"):
        require_space(tmp_path)


def test_disk_with_space_is_left_alone(tmp_path: Path) -> None:
    require_space(tmp_path)

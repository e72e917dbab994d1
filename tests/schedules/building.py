"""Points of design spaces as libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effcompile.measure import libraries
from effcompile.measure.cache import DiskCache
from effcompile.measure.libraries import LibraryMaker
from schedules.knobs import KnobSpace
from schedules.limits import require_launchable
from schedules.target import Target
from search.trial import Build


def built(module: Any, target: Target, folder: Path, *, decoded: bool = False) -> Build:
    """A scheduled program, compiled for a target.

    Args:
        module: The program.
        target: What to compile for.
        folder: For cache and library.
        decoded: Whether what its kernels execute is wanted: often longer than to compile them.
    """
    maker = LibraryMaker(
        target=target, cache=DiskCache(folder / "cache"), folder=folder, fast_math=True
    )
    with pytest.MonkeyPatch.context() as patch:
        if not decoded:
            patch.setattr(libraries, "mix_in", lambda *_, **__: None)
        return maker.make(module, flops=None, unique_bytes=None)


def assert_points_compile(
    space: KnobSpace, target: Target, folder: Path, n_points: int = 1
) -> None:
    """Some random points fit the device, and keep their data in registers."""
    for candidate in space.sample(n_points, np.random.default_rng(0)):
        build = built(space.realise(candidate), target, folder)
        require_launchable(build.stats, target)
        assert build.stats.kernels[0].spill_bytes == 0, candidate.decisions

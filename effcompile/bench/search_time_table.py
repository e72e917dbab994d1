"""How long searches took until they had a good point, a row per workload and way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from effcompile.bench.median_and_worst import median_and_worst
from effcompile.bench.search_time import Reached, SearchTime

EVERY = "all"


def rows_of(found: Sequence[SearchTime]) -> list[dict[str, object]]:
    """Median and worst over seeds of each workload, and over everything."""
    ways = list(dict.fromkeys(one.way for one in found))
    names = [*dict.fromkeys(one.workload for one in found), EVERY]
    return [_row(name, way, found) for way in ways for name in names]


def _row(name: str, way: str, found: Sequence[SearchTime]) -> dict[str, object]:
    own = [one for one in found if one.way == way and name in (one.workload, EVERY)]
    return {
        "way": way,
        "workload": name,
        "searches": len(own),
        "fast s: median, worst": _seconds(one.fast for one in own),
        "fast trials: median, worst": _trials(one.fast for one in own),
        "frugal s: median, worst": _seconds(one.frugal for one in own),
        "frugal trials: median, worst": _trials(one.frugal for one in own),
        "all trials, s": round(float(np.mean([one.whole_s for one in own])), 1),
    }


def _seconds(reached: Iterable[Reached | None]) -> str:
    return median_and_worst([None if one is None else one.seconds for one in reached], ".1f")


def _trials(reached: Iterable[Reached | None]) -> str:
    return median_and_worst([None if one is None else one.n_trials for one in reached], ".0f")

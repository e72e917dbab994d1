"""What Nsight Compute runs: every entry point a few times, each inside a named range.

    python -m effcompile.bench.counters_target ENTRIES N_LAUNCHES

``ENTRIES`` is the JSON text of a list of ``ProfiledEntry``. One JSON line on stdout tells of
each entry point that failed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from effcompile.bench.counters_entries import ProfiledEntry
from effcompile.model_inputs import make_model_inputs
from effcompile.runtime import Module, load

Range = Callable[[str], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEntry:
    """An entry point that could not be launched.

    Attributes:
        index: Its place in the list.
        error: One line.
    """

    index: int
    error: str


def range_name(index: int) -> str:
    """The range around the launches of the entry point at that place."""
    return f"entry{index}"


def launch_all(
    entries: Sequence[ProfiledEntry],
    n_launches: int,
    open_range: Range,
    free: Callable[[], None] = lambda: None,
) -> Iterator[FailedEntry]:
    """Launch every entry point ``n_launches`` times inside its range; yields those that fail.

    Args:
        entries: What to launch.
        n_launches: Inside the range.
        open_range: Makes a named range.
        free: Gives memory back after each: a profiler saves and restores all there is.
    """
    for index, one in enumerate(entries):
        try:
            _launch(one, n_launches, open_range(range_name(index)))
        except Exception as error:  # the others can still be profiled
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            yield FailedEntry(index=index, error=text)
        free()


def _launch(one: ProfiledEntry, n_launches: int, opened: AbstractContextManager[Any]) -> None:
    module = _loaded(one.artifact)
    launch = module.device_call(one.entry, _inputs(one, module))
    launch()  # the first one allocates and loads, outside the range
    module.synchronise()
    with opened:
        for _ in range(n_launches):
            launch()
        module.synchronise()


@lru_cache(maxsize=1)
def _loaded(artifact: str) -> Module:
    return load(artifact)


def _inputs(one: ProfiledEntry, module: Module) -> list[Any]:
    """Those of the case: lengths, masks and page tables decide what there is to do."""
    if not one.case:
        return list(make_model_inputs(module.function(one.entry).entry, seed=0))
    from effcompile.bench.kernels.case import chosen_cases

    (case,) = chosen_cases((), [one.case])
    return case.inputs(0)


def main() -> None:
    """The command above."""
    import torch

    entries = msgspec.json.decode(sys.argv[1], type=list[ProfiledEntry])
    ranges, free = torch.cuda.nvtx.range, torch.cuda.empty_cache
    for failed in launch_all(entries, int(sys.argv[2]), ranges, free):
        print(msgspec.json.encode(failed).decode(), flush=True)


if __name__ == "__main__":
    main()

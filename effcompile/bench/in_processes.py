"""Jobs of a benchmark, one after the other or side by side in processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_processes(
    work: Callable[[Job], Result], jobs: Sequence[Job], processes: int
) -> Iterator[Result]:
    """Results in the order of the jobs, each as soon as it and those before it are there.

    Args:
        work: A function of a module, which a fresh process can import.
        jobs: What it is called with, one at a time.
        processes: Jobs at a time; with 1 they run in this process.
    """
    if processes == 1:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, jobs)

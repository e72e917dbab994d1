"""The one thread pool of a process for work inside TVM, which releases the interpreter lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_THREADS = 16


def n_threads() -> int:
    """Threads used for one batch: the cores this process may run on, at most 16."""
    return min(MOST_THREADS, len(os.sched_getaffinity(0)))


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=size, thread_name_prefix="schedules")


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """``function`` of every item, in order; must not be called from inside itself."""
    if len(items) < 2 or n_threads() < 2:
        return [function(item) for item in items]
    return list(_pool(n_threads()).map(function, items))

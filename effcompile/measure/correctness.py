"""Whether a kernel computes what its workload says, and touches nothing else.

Outputs are poisoned before a launch, so an element that a kernel never writes shows the
poison. NaN is never right where the reference is a number; where the poison could pass
for a result, a second launch on another poison follows. Then guards and inputs are
compared with what they held.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from effcompile.measure.arguments import Arguments, as_bytes
from effcompile.measure.prepared import Prepared
from schedules.reference import compare

# All ones is NaN in every IEEE float and -1 in integers; the other is a small finite number.
POISONS = (0xFF, 0x3C)
CHUNK = 1 << 19
BYTES_CHUNK = 1 << 22
MOST_THREADS = 16


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), thread_name_prefix="compare")


class Checker:
    """Compares kernels of one workload with its reference.

    Args:
        prepared: Inputs, references, tolerance.
    """

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        # The first poison is NaN, which cannot pass for a finite float.
        only_floats = all(
            lowest.size and bool((lowest <= highest).all()) for lowest, highest in prepared.bounds
        )
        self._poisons = POISONS[:1] if only_floats else POISONS

    def check(self, launch: Callable[[], None], arguments: Arguments) -> str:
        """Run a kernel and look at everything it may have written.

        Args:
            launch: One launch on ``arguments``, finished when it returns.
            arguments: Holds the prepared inputs.

        Returns:
            Empty if the kernel is right, else one sentence.
        """
        for poison in self._poisons:
            for output in arguments.outputs:
                output.poison(poison)
            launch()
            wrong = self.compare_outputs(arguments)
            if wrong:
                return wrong
        return self._stray_writes(arguments)

    def compare_outputs(self, arguments: Arguments) -> str:
        """Compare what the outputs hold now with the references."""
        for output, reference, scale, bounds in zip(
            arguments.outputs,
            self._prepared.references,
            self._prepared.scales,
            self._prepared.bounds,
            strict=True,
        ):
            actual = output.typed(output.read_bytes())
            suspects = _suspects(actual, bounds)
            if suspects.size == 0:
                continue
            tolerance = self._prepared.tolerance
            wrong = compare(actual, reference, tolerance, scale=scale, suspects=suspects)
            if wrong:
                return f"output {output.spec.name}: {wrong}"
        return ""

    def _stray_writes(self, arguments: Arguments) -> str:
        for argument in (*arguments.inputs, *arguments.outputs):
            if not argument.guards_are_whole():
                return f"wrote outside argument {argument.spec.name}"
        for argument, data in zip(arguments.inputs, self._prepared.inputs, strict=True):
            if not _equal(argument.read_bytes(), as_bytes(data)):
                return f"changed its input {argument.spec.name}"
        return ""


def _suspects(actual: np.ndarray, bounds: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Flat indices of the elements that are not certain to be right.

    A full comparison of 16 million elements takes seconds, this milliseconds; it names
    every element for which float32 cannot tell.
    """
    if actual.dtype.itemsize > np.dtype(np.float32).itemsize or actual.dtype.kind in "iu":
        return np.arange(actual.size)
    flat, lowest, highest = actual.reshape(-1), *(bound.reshape(-1) for bound in bounds)

    def look(start: int) -> np.ndarray:
        part = slice(start, start + CHUNK)
        values = flat[part].astype(np.float32)
        right = (values >= lowest[part]) & (values <= highest[part])
        return np.empty(0, np.intp) if right.all() else start + np.flatnonzero(~right)

    found = list(_threads().map(look, range(0, flat.size, CHUNK)))
    return np.concatenate(found) if found else np.empty(0, np.intp)


def _equal(left: np.ndarray, right: np.ndarray) -> bool:
    """Whether two arrays of bytes are the same."""

    def look(start: int) -> bool:
        part = slice(start, start + BYTES_CHUNK)
        return np.array_equal(left[part], right[part])

    return all(_threads().map(look, range(0, left.size, BYTES_CHUNK)))

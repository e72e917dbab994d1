"""Whether a kernel computes what its workload says, and touches nothing else.

Outputs are poisoned before a launch, so an element that a kernel never writes shows the
poison. NaN is never right where the reference is a number; where the poison could pass
for a result, a second launch on another poison follows. Then guards and inputs are
compared with what they held.

A screen may say on the device that all is well, and is believed. What is wrong, and whether it
really is, is decided here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Protocol

import numpy as np

from effcompile.measure.arguments import Arguments, as_bytes
from effcompile.measure.prepared import Expectation, Prepared
from schedules.reference import Tolerance, compare

# All ones is NaN in every IEEE float and -1 in integers; the other is a small finite number.
POISONS = (0xFF, 0x3C)
CHUNK = 1 << 19
BYTES_CHUNK = 1 << 22
MOST_THREADS = 16


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), thread_name_prefix="compare")


class Screen(Protocol):
    """A quick look at one workload's arguments where they are; sure only when it says yes."""

    def outputs_are_right(self, arguments: Arguments) -> bool:
        """Whether every element of every output certainly is."""

    def rest_is_untouched(self, arguments: Arguments) -> bool:
        """Whether guards and inputs hold what they held."""

    def keep(self, arguments: Arguments) -> None:
        """Remember outputs in which a poison could pass for a result."""

    def are_as_kept(self, arguments: Arguments) -> bool:
        """Whether these outputs hold, bit for bit, what was kept."""


class Checker:
    """Compares kernels of one workload with its reference.

    Args:
        prepared: Inputs, references, tolerance.
        screen: Spares copying everything to the host; ``None`` where there is none.
    """

    def __init__(self, prepared: Prepared, screen: Screen | None = None) -> None:
        self._prepared = prepared
        self._screen = screen
        # The first poison is NaN, which cannot pass for a finite float.
        only_floats = all(output.is_finite for output in prepared.outputs)
        self._poisons = POISONS[:1] if only_floats else POISONS
        self._keeper = screen or _HostKeeper(prepared)
        self._hides_poison = any(output.hides_poison for output in prepared.outputs)

    def check(self, launch: Callable[[], None], arguments: Arguments) -> str:
        """Run a kernel and look at everything it may have written.

        Args:
            launch: One launch on ``arguments``, finished when it returns.
            arguments: Holds the prepared inputs.

        Returns:
            Empty if the kernel is right, else one sentence.
        """
        for turn, poison in enumerate(self._poisons):
            for output in arguments.outputs:
                output.poison(poison)
            launch()
            wrong = self.compare_outputs(arguments)
            if wrong:
                return wrong
            if not self._hides_poison:
                continue
            if turn and not self._keeper.are_as_kept(arguments):
                return "two launches on equal inputs give different outputs"
            self._keeper.keep(arguments)
        return self._stray_writes(arguments)

    def compare_outputs(self, arguments: Arguments) -> str:
        """Compare what the outputs hold now with the references."""
        if self._screen is not None and self._screen.outputs_are_right(arguments):
            return ""
        for output, expectation in zip(arguments.outputs, self._prepared.outputs, strict=True):
            actual = output.typed(output.read_bytes())
            wrong = _compare(actual, expectation, self._prepared.tolerance)
            if wrong:
                return f"output {output.spec.name}: {wrong}"
        return ""

    def _stray_writes(self, arguments: Arguments) -> str:
        if self._screen is not None and self._screen.rest_is_untouched(arguments):
            return ""
        for argument in (*arguments.inputs, *arguments.outputs):
            if not argument.guards_are_whole():
                return f"wrote outside argument {argument.spec.name}"
        for argument, data in zip(arguments.inputs, self._prepared.inputs, strict=True):
            if not _equal(argument.read_bytes(), as_bytes(data)):
                return f"changed its input {argument.spec.name}"
        return ""


class _HostKeeper:
    """Keeps outputs in the host's memory; see :class:`Screen`."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._kept: list[np.ndarray] = []

    def keep(self, arguments: Arguments) -> None:
        self._kept = [found.copy() for found in self._found(arguments)]

    def are_as_kept(self, arguments: Arguments) -> bool:
        return all(map(_equal, self._kept, self._found(arguments)))

    def _found(self, arguments: Arguments) -> Iterator[np.ndarray]:
        for output, expectation in zip(arguments.outputs, self._prepared.outputs, strict=True):
            if expectation.hides_poison:
                yield output.read_bytes()


def _compare(actual: np.ndarray, expectation: Expectation, tolerance: Tolerance) -> str:
    """What is wrong with an output, empty if nothing."""
    reference = expectation.reference
    known = reference.known(actual)
    suspects = _suspects(known, expectation)
    wrong = None
    if suspects.size:
        wrong = compare(
            known,
            reference.values,
            tolerance,
            scale=expectation.scale,
            suspects=suspects,
            locate=lambda index: reference.position(index, actual.shape),
        )
    if wrong is None and not reference.is_whole:
        wrong = _implausible(actual, limits_with_error(expectation, tolerance))
    return wrong or ""


def limits_with_error(expectation: Expectation, tolerance: Tolerance) -> tuple[float, float]:
    """Limits of every element of a sampled output, a right kernel's error included."""
    lowest, highest = expectation.reference.limits
    largest = max(abs(lowest), abs(highest))
    error = tolerance.atol * expectation.scale + tolerance.rtol * largest
    return lowest - error, highest + error


def _implausible(actual: np.ndarray, limits: tuple[float, float]) -> str | None:
    """Why elements that were not computed for the reference cannot be right."""
    lowest, highest = limits
    flat = actual.reshape(-1)

    def look(start: int) -> np.ndarray:
        part = flat[start : start + CHUNK].astype(np.float64)
        return start + np.flatnonzero(~((part >= lowest) & (part <= highest)))

    found = np.concatenate(list(_threads().map(look, range(0, flat.size, CHUNK))))
    if found.size == 0:
        return None
    place = tuple(int(i) for i in np.unravel_index(int(found[0]), actual.shape))
    return (
        f"{found.size} of {actual.size} elements are impossible; the first at {place}: "
        f"{float(flat[found[0]]):.6g}, expected {lowest:.6g} to {highest:.6g}"
    )


def _suspects(actual: np.ndarray, expectation: Expectation) -> np.ndarray:
    """Flat indices of the elements that are not certain to be right.

    A full comparison of 16 million elements takes seconds, this milliseconds; it names
    every element for which float32 cannot tell.
    """
    if expectation.lowest.size == 0 or actual.dtype.itemsize > np.dtype(np.float32).itemsize:
        return np.arange(actual.size)
    flat, lowest, highest = actual.reshape(-1), expectation.lowest, expectation.highest

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

"""Whether a kernel computes what its workload says, and touches nothing else.

Two launches on differently poisoned outputs: an element that a kernel never writes
shows one poison or the other, whatever the data. Then guards and inputs are compared
with what they held.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from effcompile.measure.arguments import Arguments, as_bytes
from effcompile.measure.prepared import Prepared
from schedules.reference import compare

# All ones is NaN in every IEEE float and -1 in integers; the other is a small finite number.
POISONS = (0xFF, 0x3C)


class Checker:
    """Compares kernels of one workload with its reference.

    Args:
        prepared: Inputs, references, tolerance.
    """

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        # Many candidates of a task give the same bits; those are compared only once.
        self._known_right: list[np.ndarray] | None = None

    def check(self, launch: Callable[[], None], arguments: Arguments) -> str:
        """Run a kernel and look at everything it may have written.

        Args:
            launch: One launch on ``arguments``, finished when it returns.
            arguments: Holds the prepared inputs.

        Returns:
            Empty if the kernel is right, else one sentence.
        """
        for poison in POISONS:
            for output in arguments.outputs:
                output.poison(poison)
            launch()
            wrong = self.compare_outputs(arguments) or self._stray_writes(arguments)
            if wrong:
                return wrong
        return ""

    def compare_outputs(self, arguments: Arguments) -> str:
        """Compare what the outputs hold now with the references."""
        found = [output.read_bytes() for output in arguments.outputs]
        if self._known_right is not None and all(map(np.array_equal, found, self._known_right)):
            return ""
        for output, data, reference in zip(
            arguments.outputs, found, self._prepared.references, strict=True
        ):
            wrong = compare(output.typed(data), reference, self._prepared.tolerance)
            if wrong:
                return f"output {output.spec.name}: {wrong}"
        self._known_right = found
        return ""

    def _stray_writes(self, arguments: Arguments) -> str:
        for argument in (*arguments.inputs, *arguments.outputs):
            if not argument.guards_are_whole():
                return f"wrote outside argument {argument.spec.name}"
        for argument, data in zip(arguments.inputs, self._prepared.inputs, strict=True):
            if not np.array_equal(argument.read_bytes(), as_bytes(data)):
                return f"changed its input {argument.spec.name}"
        return ""

"""Integer exponentials of softmax: constants, and their value for every quantised distance.

A distance from the row's maximum is a code ``u`` of ``score_bits`` bits, in steps of ``step``
nats. Two forms of ``exp(-u * step)`` in integers:

``polynomial``    ln 2 is ``octave`` steps. ``q = u // octave`` by Barrett's multiplication,
                  ``r = u - q * octave``, ``((shift - r)**2 + offset) << guard >> q``: the second
                  degree polynomial ``0.3585 (p + 1.353)**2 + 0.344`` of I-BERT (arXiv 2101.01321).
``power_of_two``  ``octave`` is 2**k, so ``q`` and ``r`` are bits of ``u``:
                  ``table[r] << guard >> q`` with ``octave`` entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor, log

import numpy as np

from schedules.workload import Attribute

POLYNOMIAL, POWER_OF_TWO = "polynomial", "power_of_two"
# a (p + b)**2 + c is exp(p) on (-ln 2, 0] within 0.0021.
A, B, C = 0.3585, 1.353, 0.344
SCORE_BITS = range(2, 13)
MOST_TABLE_BITS = 24
LARGEST_WORD = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class IntegerExponential:
    """One integer exponential, all constants known.

    Attributes:
        form: ``polynomial`` or ``power_of_two``.
        score_bits: Bits of a distance code.
        step: Nats per code.
        octave: Codes per factor of two.
        limit: Largest distance in nats; what is farther counts as that far.
        guard_bits: Bits kept below the unit.
        clips_to_zero: Whether the largest code counts as infinitely far.
        table_bits: Bits of the fraction's table, ``power_of_two`` only.
    """

    form: str
    score_bits: int
    step: float
    octave: int
    limit: float
    guard_bits: int
    clips_to_zero: bool
    table_bits: int

    @property
    def largest_code(self) -> int:
        """Of a distance."""
        return (1 << self.score_bits) - 1

    @property
    def shift(self) -> int:
        """``B`` in codes; rounded where the step was chosen to fit ln 2 exactly."""
        exact = B / self.step
        return round(exact) if self._is_snapped else floor(exact)

    @property
    def offset(self) -> int:
        """``C / A`` in square codes."""
        return floor(C / (A * self.step**2))

    @property
    def barrett(self) -> int:
        """Rounded up, so that ``(u * barrett) >> (2 * score_bits)`` is exact for every code."""
        return ceil((1 << 2 * self.score_bits) / self.octave)

    @property
    def _is_snapped(self) -> bool:
        return self.step == log(2) / self.octave

    @cached_property
    def fractions(self) -> tuple[int, ...]:
        """The table of ``power_of_two``: ``2**(table_bits - r / octave)`` for every ``r``."""
        return tuple(round(2.0 ** (self.table_bits - r / self.octave)) for r in range(self.octave))

    @cached_property
    def values(self) -> np.ndarray:
        """The exponential of every code: int64, never increasing."""
        u = np.arange(self.largest_code + 1, dtype=np.int64)
        if self.form == POWER_OF_TWO:
            q, r = u // self.octave, u % self.octave
            raised = np.asarray(self.fractions, dtype=np.int64)[r]
        else:
            q = (u * self.barrett) >> (2 * self.score_bits)
            r = u - q * self.octave
            raised = (self.shift - r) ** 2 + self.offset
        found = (raised << self.guard_bits) >> q
        if self.clips_to_zero:
            found[-1] = 0
        return found


def integer_exponential(attrs: Mapping[str, Attribute]) -> IntegerExponential:
    """The exponential that an operator's attributes describe.

    Args:
        attrs: ``form``; ``score_bits``; ``octave`` (steps of ln 2 / octave) or, where that is 0,
            ``clip`` (nats of the largest code); ``guard_bits``; ``clip_to_zero``; ``table_bits``.

    Raises:
        ValueError: They describe none, or one that 32 bits do not hold.
    """
    form, bits = str(attrs["form"]), int(attrs["score_bits"])
    octave, clip = int(attrs["octave"]), float(attrs["clip"])
    guard_bits, table_bits = int(attrs["guard_bits"]), int(attrs["table_bits"])
    _require(form in (POLYNOMIAL, POWER_OF_TWO), f"form {form!r}: {POLYNOMIAL} or {POWER_OF_TWO}")
    _require(bits in SCORE_BITS, f"score_bits {bits}: {SCORE_BITS[0]} to {SCORE_BITS[-1]}")
    _require(0 <= guard_bits <= 16, f"guard_bits {guard_bits}: 0 to 16")
    _require(octave > 0 or clip > 0, f"octave {octave} and clip {clip}: one above 0")
    largest_code = (1 << bits) - 1
    step = log(2) / octave if octave else clip / largest_code
    _require(step <= log(2), f"a step of {step:.3g} nats: at most ln 2")
    if form == POWER_OF_TWO:
        _require(octave > 0 and octave & (octave - 1) == 0, f"octave {octave}: a power of two")
        _require(1 <= table_bits <= MOST_TABLE_BITS, f"table_bits {table_bits}: 1 to 24")
    made = IntegerExponential(
        form=form,
        score_bits=bits,
        step=step,
        octave=octave or floor(log(2) / step),
        limit=largest_code * step if octave else clip,
        guard_bits=guard_bits,
        clips_to_zero=form == POWER_OF_TWO or bool(attrs["clip_to_zero"]),
        table_bits=table_bits,
    )
    product = largest_code * made.barrett if form == POLYNOMIAL else 0
    largest = max(product, int(made.values[0]))
    _require(largest <= LARGEST_WORD, f"a product of {largest}: at most {LARGEST_WORD}")
    return made


def _require(holds: bool, found_and_expected: str) -> None:
    if not holds:
        raise ValueError(f"integer exponential with {found_and_expected} is expected")

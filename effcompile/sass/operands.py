"""Operands and results of one instruction, as far as loop counters need them.

A value is named by a key: general register ``R``, scalar register ``UR``, predicates ``P``
and ``UP``. Constants stand as :class:`Constant`.

Source:
    Field positions found as told in :mod:`effcompile.sass.opcodes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from effcompile.sass.opcodes import KINDS, Op

MASK = 0xFFFFFFFF
N_UNIFORM = range(0x080, 0x0C0)
"""Opcodes of the scalar unit; their registers are scalar ones."""

ALWAYS = 7
"""The predicate that is always true."""

_NO_RESULT = frozenset(
    op
    for kind in ("control", "barrier", "bulk_copy", "global_store_bytes", "shared_store_bytes")
    for op in KINDS[kind]
) | {Op.STL, Op.LDGSTS}
"""Opcodes whose result field means something else."""


class Key(NamedTuple):
    """A register or predicate: kind ``R``, ``UR``, ``P`` or ``UP``, and its number."""

    kind: str
    number: int


class Constant(NamedTuple):
    """A known 32-bit number."""

    value: int


class Parameter(NamedTuple):
    """A word of the launch's constant bank, by byte offset."""

    offset: int


Operand = Key | Constant | Parameter


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction with its fields taken apart.

    Attributes:
        place: Index in the kernel.
        op: Low nine bits.
        low: First word.
        high: Second word.
        guard: Predicate that lets it run, ``None`` for always.
        is_negated: Whether it runs where the guard is false.
        sources: Operands a, b and c.
        results: What it writes, as far as loop counters can be among it.
    """

    place: int
    op: int
    low: int
    high: int
    guard: Key | None
    is_negated: bool
    sources: tuple[Operand, ...]
    results: tuple[Key, ...]

    def bit(self, place: int) -> bool:
        """One bit of the 128."""
        return bool((self.high >> (place - 64) if place >= 64 else self.low >> place) & 1)

    def bits(self, place: int, n: int) -> int:
        """``n`` bits from a place in the second word on."""
        return (self.high >> (place - 64)) & ((1 << n) - 1)


def decode(place: int, low: int, high: int) -> Instruction:
    """Take an instruction apart."""
    op = low & 0x1FF
    is_uniform = op in N_UNIFORM
    number = (low >> 12) & 7
    guard = None if number == ALWAYS else Key("UP" if is_uniform else "P", number)
    return Instruction(
        place=place,
        op=op,
        low=low,
        high=high,
        guard=guard,
        is_negated=bool(low >> 15 & 1),
        sources=_sources(op, low, high, is_uniform=is_uniform),
        results=results_of(low, high),
    )


def _sources(op: int, low: int, high: int, *, is_uniform: bool) -> tuple[Operand, ...]:
    if op in (Op.PLOP3, Op.UPLOP3):
        return _predicate_sources(high, is_uniform=is_uniform)
    kind = "UR" if is_uniform else "R"
    form = (low >> 9) & 7
    first = _register(kind, low >> 24)
    wide = Constant((low >> 32) & MASK)
    banked = Parameter((low >> 40 & 0x3FFF) * 4) if (low >> 54) & 0x1F == 0 else Parameter(-1)
    special = {2: wide, 3: banked, 4: wide, 5: banked, 6: _register("UR", low >> 32)}.get(
        form, _register("UR" if form == 7 else kind, low >> 32)
    )
    other = _register(kind, high)
    if form in (2, 3, 7):
        return first, other, special
    return first, special, other


def _predicate_sources(high: int, *, is_uniform: bool) -> tuple[Operand, ...]:
    kind = "UP" if is_uniform else "P"
    last = "UP" if is_uniform or high >> 3 & 1 else "P"
    return Key(kind, high >> 23 & 7), Key(kind, high >> 13 & 7), Key(last, high >> 4 & 7)


def _register(kind: str, bits: int) -> Operand:
    """A register; the last number of each kind reads as zero."""
    number = bits & 0xFF
    if number == 0xFF or (kind == "UR" and number == 0x3F):
        return Constant(0)
    return Key(kind, number)


def results_of(low: int, high: int) -> tuple[Key, ...]:
    """What an instruction writes, as far as loop counters can be among it."""
    op = low & 0x1FF
    if op in _NO_RESULT:
        return ()
    is_uniform = op in N_UNIFORM
    predicate = "UP" if is_uniform else "P"
    first, second = Key(predicate, high >> 17 & 7), Key(predicate, high >> 20 & 7)
    if op in (Op.ISETP, Op.UISETP, Op.PLOP3, Op.UPLOP3):
        return tuple(key for key in (first, second) if key.number != ALWAYS)
    scalar = is_uniform or op in (Op.R2UR, Op.R2UR_WIDE, Op.S2UR)
    number = low >> 16 & 0xFF
    written = [Key("UR" if scalar else "R", number)]
    if op in (Op.CS2R, Op.IMAD_WIDE):
        written.append(Key("R", number + 1))
    carries: dict[int, tuple[Key, ...]] = {
        Op.IADD3: (first, second),
        Op.UIADD3: (first, second),
        Op.LEA: (first,),
    }
    written += [key for key in carries.get(op, ()) if key.number != ALWAYS]
    return tuple(written)

"""What an instruction computes from known 32-bit numbers; ``None`` where that is unknown.

Only what loop counters are made of is known here; everything else is unknown, which the
caller must live with. Fields are read once per instruction, not each time it runs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

from effcompile.sass.opcodes import Op
from effcompile.sass.operands import MASK, Instruction

Value = int | None
Meaning = Callable[[Value, Value, Value], Value]
"""From operands a, b and c to the result."""

_ORDER: dict[int, Callable[[int, int], bool]] = {
    1: operator.lt,
    2: operator.eq,
    3: operator.le,
    4: operator.gt,
    5: operator.ne,
    6: operator.ge,
}
_EXTENDED, _HIGH = 74, 80
_COMPARES_SIGNED, _SHIFTS_UNSIGNED = 73, 73
SPECIAL_ZERO = 0xFF
_SPECIAL = frozenset(int(op) for op in (Op.S2R, Op.S2UR, Op.CS2R))
_TWO_SIDED = frozenset(int(op) for op in (Op.ISETP, Op.UISETP, Op.PLOP3, Op.UPLOP3))


def meaning_of(one: Instruction) -> Meaning | None:
    """How the operands tell the result; ``None`` if they do not.

    What reads a special register takes that for its first operand.
    """
    if one.op in _SPECIAL:
        return _first
    read = _MEANINGS.get(one.op)
    return read(one) if read is not None else None


def n_told(one: Instruction) -> int:
    """How many of ``one.results``, from the first on, hold the result; the others are unknown."""
    if one.op in _SPECIAL:
        return len(one.results)
    # The form of a second predicate is not needed.
    has_first = one.op not in _TWO_SIDED or one.high >> 17 & 7 != 7
    return min(len(one.results), int(has_first))


def is_followed(op: int) -> bool:
    """Whether the operands of an opcode may tell its result."""
    return op in _MEANINGS or op in _SPECIAL


def special_of(one: Instruction) -> int | None:
    """Number of the special register that an instruction reads."""
    return one.bits(72, 8) if one.op in _SPECIAL else None


def _first(a: Value, b: Value, c: Value) -> Value:
    return a


def _second(a: Value, b: Value, c: Value) -> Value:
    return b


def _add3(one: Instruction) -> Meaning | None:
    if one.bit(_EXTENDED):
        return None
    has_wide = (one.low >> 9) & 7 in (2, 4)
    sign_a = -1 if one.bit(72) else 1
    sign_b = -1 if one.bit(63) and not has_wide else 1
    sign_c = -1 if one.bit(75) else 1

    def add(a: Value, b: Value, c: Value) -> Value:
        if a is None or b is None or c is None:
            return None
        return (sign_a * a + sign_b * b + sign_c * c) & MASK

    return add


def _add2(a: Value, b: Value, c: Value) -> Value:
    return None if a is None or b is None else (a + b) & MASK


def _multiply_add(one: Instruction) -> Meaning | None:
    def multiply_add(a: Value, b: Value, c: Value) -> Value:
        if c is None:
            return None
        if a == 0 or b == 0:
            return c
        return None if a is None or b is None else (a * b + c) & MASK

    return None if one.bit(_EXTENDED) else multiply_add


def _half_move(a: Value, b: Value, c: Value) -> Value:
    """A half-precision ``0 * 0 + c``: how the compiler moves a constant off the integer unit."""
    return c if a == 0 and b == 0 else None


def _shifted_add(one: Instruction) -> Meaning | None:
    by = one.bits(75, 5)

    def shifted_add(a: Value, b: Value, c: Value) -> Value:
        return None if a is None or b is None else ((a << by) + b) & MASK

    return None if one.bit(_HIGH) or one.bit(_EXTENDED) else shifted_add


def _shift(one: Instruction) -> Meaning | None:
    def left(a: Value, by: Value, c: Value) -> Value:
        return None if a is None or by is None else (a << min(by, 63)) & MASK

    is_unsigned = one.bit(_SHIFTS_UNSIGNED)

    def right(a: Value, by: Value, c: Value) -> Value:
        if by is None or c is None:
            return None
        return ((c if is_unsigned else _signed(c)) >> min(by, 63)) & MASK

    if not one.bit(76):
        return left
    return right if one.bit(_HIGH) else None


def _logic(one: Instruction) -> Meaning:
    return _by_table(one.bits(72, 8), mask=MASK)


def _predicate_logic(one: Instruction) -> Meaning:
    return _by_table((one.high & 7) | (one.high >> 8 & 0x1F) << 3, mask=1)


def _by_table(table: int, *, mask: int) -> Meaning:
    """Bit by bit: entry ``4a + 2b + c`` of an eight-entry table."""
    # What is flipped before all three must be set.
    entries = [entry for entry in range(8) if table >> entry & 1]
    flips = [tuple(0 if entry >> place & 1 else mask for place in (2, 1, 0)) for entry in entries]

    def look_up(a: Value, b: Value, c: Value) -> Value:
        if a is None or b is None or c is None:
            return None if flips else 0
        answer = 0
        for flip_a, flip_b, flip_c in flips:
            answer |= (a ^ flip_a) & (b ^ flip_b) & (c ^ flip_c)
        return answer & mask

    return look_up


def _compare(one: Instruction) -> Meaning | None:
    order = _ORDER.get(one.bits(76, 3))
    combined = one.bits(87, 3) != 7 or one.bits(74, 2) != 0
    if order is None or combined or one.bit(72):
        return None
    # Flipping their highest bits orders signed numbers like unsigned ones.
    flip = 1 << 31 if one.bit(_COMPARES_SIGNED) else 0

    def compare(a: Value, b: Value, c: Value) -> Value:
        return None if a is None or b is None else int(order(a ^ flip, b ^ flip))

    return compare


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value


def _always(meaning: Meaning) -> Callable[[Instruction], Meaning]:
    """A meaning that no field changes."""
    return lambda one: meaning


_MEANINGS: dict[int, Callable[[Instruction], Meaning | None]] = {
    Op.MOV: _always(_second),
    Op.UMOV: _always(_second),
    Op.LDC: _always(_second),
    Op.ULDC: _always(_second),
    Op.R2UR: _always(_first),
    Op.R2UR_WIDE: _always(_first),
    Op.IADD3: _add3,
    Op.UIADD3: _add3,
    Op.VIADD: _always(_add2),
    Op.IMAD: _multiply_add,
    Op.UIMAD: _multiply_add,
    Op.HFMA2_MMA: _always(_half_move),
    Op.LEA: _shifted_add,
    Op.ULEA: _shifted_add,
    Op.SHF: _shift,
    Op.USHF: _shift,
    Op.LOP3: _logic,
    Op.ULOP3: _logic,
    Op.PLOP3: _predicate_logic,
    Op.UPLOP3: _predicate_logic,
    Op.ISETP: _compare,
    Op.UISETP: _compare,
}

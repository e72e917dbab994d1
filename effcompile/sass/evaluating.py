"""What an instruction computes from known 32-bit numbers; ``None`` where that is unknown.

Only what loop counters are made of is known here; everything else is unknown, which the
caller must live with.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

from effcompile.sass.opcodes import Op
from effcompile.sass.operands import MASK, Instruction

Value = int | None

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


def evaluate(one: Instruction, values: Sequence[Value], specials: dict[int, int]) -> list[Value]:
    """One value per entry of ``one.results``.

    Args:
        one: The instruction.
        values: Its operands.
        specials: Special registers by number: thread and block coordinates.
    """
    function = _FUNCTIONS.get(one.op)
    if function is not None:
        answer = function(one, values)
        if one.op in _TWO_SIDED:
            return _two_sided(one, answer)
        rest: list[Value] = [None] * (len(one.results) - 1)
        return [None if answer is None else answer & MASK, *rest]
    if one.op in _SPECIAL:
        number = one.bits(72, 8)
        found = 0 if number == SPECIAL_ZERO else specials.get(number)
        return [found] * len(one.results)
    return [None] * len(one.results)


def is_followed(op: int) -> bool:
    """Whether the operands of an opcode may tell its result."""
    return op in _FUNCTIONS or op in _SPECIAL


def _two_sided(one: Instruction, answer: Value) -> list[Value]:
    """The first predicate holds the answer; the second one's form is not needed."""
    found: list[Value] = [None] * len(one.results)
    if found and one.high >> 17 & 7 != 7:
        found[0] = answer
    return found


def _add3(one: Instruction, values: Sequence[Value]) -> Value:
    if one.bit(_EXTENDED) or None in values:
        return None
    a, b, c = (value or 0 for value in values)
    has_wide = (one.low >> 9) & 7 in (2, 4)
    b = -b if one.bit(63) and not has_wide else b
    return (-a if one.bit(72) else a) + b + (-c if one.bit(75) else c)


def _add2(one: Instruction, values: Sequence[Value]) -> Value:
    a, b = values[:2]
    return None if a is None or b is None else a + b


def _multiply_add(one: Instruction, values: Sequence[Value]) -> Value:
    a, b, c = values
    if one.bit(_EXTENDED) or c is None:
        return None
    if a == 0 or b == 0:
        return c
    return None if a is None or b is None else a * b + c


def _half_move(one: Instruction, values: Sequence[Value]) -> Value:
    """A half-precision ``0 * 0 + c``: how the compiler moves a constant off the integer unit."""
    return values[2] if values[0] == 0 and values[1] == 0 else None


def _shifted_add(one: Instruction, values: Sequence[Value]) -> Value:
    a, b = values[:2]
    if one.bit(_HIGH) or one.bit(_EXTENDED) or a is None or b is None:
        return None
    return (a << one.bits(75, 5)) + b


def _shift(one: Instruction, values: Sequence[Value]) -> Value:
    a, by, c = values
    if by is None:
        return None
    if not one.bit(76):
        return None if a is None else a << min(by, 63)
    if not one.bit(_HIGH) or c is None:
        return None
    shifted = c if one.bit(_SHIFTS_UNSIGNED) else _signed(c)
    return shifted >> min(by, 63)


def _logic(one: Instruction, values: Sequence[Value]) -> Value:
    return _by_table(one.bits(72, 8), values, mask=MASK)


def _predicate_logic(one: Instruction, values: Sequence[Value]) -> Value:
    table = (one.high & 7) | (one.high >> 8 & 0x1F) << 3
    a, b, c = values
    if a is None or b is None or c is None:
        return _by_table(table, values, mask=1)
    return table >> ((a & 1) << 2 | (b & 1) << 1 | c & 1) & 1


def _by_table(table: int, values: Sequence[Value], *, mask: int) -> Value:
    """Bit by bit: entry ``4a + 2b + c`` of an eight-entry table."""
    answer = 0
    for entry in range(8):
        if not table >> entry & 1:
            continue
        term = mask
        for value, wanted in zip(values, (entry >> 2 & 1, entry >> 1 & 1, entry & 1), strict=True):
            if value is None:
                return None
            term &= value if wanted else ~value & mask
        answer |= term
    return answer


def _compare(one: Instruction, values: Sequence[Value]) -> Value:
    a, b = values[:2]
    order = _ORDER.get(one.bits(76, 3))
    combined = one.bits(87, 3) != 7 or one.bits(74, 2) != 0
    if a is None or b is None or order is None or combined or one.bit(72):
        return None
    if one.bit(_COMPARES_SIGNED):
        a, b = _signed(a), _signed(b)
    return int(order(a, b))


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value


def _second(one: Instruction, values: Sequence[Value]) -> Value:
    return values[1]


def _first(one: Instruction, values: Sequence[Value]) -> Value:
    return values[0]


_FUNCTIONS: dict[int, Callable[[Instruction, Sequence[Value]], Value]] = {
    Op.MOV: _second,
    Op.UMOV: _second,
    Op.LDC: _second,
    Op.ULDC: _second,
    Op.R2UR: _first,
    Op.R2UR_WIDE: _first,
    Op.IADD3: _add3,
    Op.UIADD3: _add3,
    Op.VIADD: _add2,
    Op.IMAD: _multiply_add,
    Op.UIMAD: _multiply_add,
    Op.HFMA2_MMA: _half_move,
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

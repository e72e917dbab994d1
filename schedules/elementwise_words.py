"""Reads of one input whose positions differ by constants, as one aligned access."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """Consecutive elements of an input that are read at once.

    Attributes:
        buffer: Place of the input in the workload's order.
        width: Elements, a power of two; the first lies at a multiple of it.
        position: CUDA text of the first element's place.
        guard: CUDA text of when it may be read.
    """

    buffer: int
    width: int
    position: str
    guard: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One element.

    Attributes:
        buffer: Place of the input in the workload's order.
        place: CUDA text of a multiple of ``step``.
        offset: Elements between that and the one that is read, fewer than ``step``.
        step: A power of two, the widest word that may be read there.
        guard: CUDA text of when it is inside of the input.
    """

    buffer: int
    place: str
    offset: int
    step: int
    guard: str


def gathered(reads: Sequence[Reading]) -> tuple[list[Word], list[str]]:
    """Words that hold every read, and what each read is called."""
    groups: dict[tuple[int, int, str], list[Reading]] = {}
    for read in reads:
        groups.setdefault(_key(read), []).append(read)
    words = {key: _word(group) for key, group in groups.items()}
    numbers = {key: number for number, key in enumerate(groups)}
    firsts = {key: _first(group, words[key].width) for key, group in groups.items()}
    places = [f"r{numbers[_key(one)]}[{one.offset - firsts[_key(one)]}]" for one in reads]
    return list(words.values()), places


def _key(read: Reading) -> tuple[int, int, str]:
    return read.buffer, read.step, read.place


def _word(group: list[Reading]) -> Word:
    """The narrowest aligned word that holds all reads of a group."""
    width = group[0].step
    while width > 1 and len({read.offset // (width // 2) for read in group}) == 1:
        width //= 2
    guards = sorted({read.guard for read in group})
    whole = "true" if "true" in guards else " || ".join(f"({guard})" for guard in guards)
    position = f"{group[0].place} + {_first(group, width)}"
    return Word(buffer=group[0].buffer, width=width, position=position, guard=whole)


def _first(group: list[Reading], width: int) -> int:
    return min(read.offset for read in group) // width * width

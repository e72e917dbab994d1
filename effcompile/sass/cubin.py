"""Kernels inside an ELF image of machine code."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

_HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_TEXT = b".text."
INSTRUCTION_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KernelCode:
    """Machine code of one kernel.

    Attributes:
        name: Symbol of the kernel.
        words: Two 64-bit words per instruction, low word first, uint64, shape (n, 2).
    """

    name: str
    words: np.ndarray

    def field(self, first: int, n_bits: int) -> np.ndarray:
        """Bits ``first`` to ``first + n_bits - 1`` of every instruction, uint64, shape (n,).

        A field never crosses the two words.
        """
        word, shift = divmod(first, 64)
        return (self.words[:, word] >> np.uint64(shift)) & np.uint64((1 << n_bits) - 1)


def kernels_in(cubin: bytes) -> dict[str, KernelCode]:
    """Every kernel of an image by symbol; empty if the bytes are no such image."""
    if cubin[:4] != b"\x7fELF" or len(cubin) < 64:
        return {}
    header = _HEADER.unpack_from(cubin)
    table_at, entry_bytes, n_entries, names_index = header[5], header[10], header[11], header[12]
    sections = [
        _SECTION.unpack_from(cubin, table_at + place * entry_bytes) for place in range(n_entries)
    ]
    names_at = sections[names_index][4]
    found = {}
    for section in sections:
        start = names_at + section[0]
        name = cubin[start : cubin.index(b"\0", start)]
        if not name.startswith(_TEXT):
            continue
        at, size = section[4], section[5] // INSTRUCTION_BYTES * INSTRUCTION_BYTES
        words = np.frombuffer(cubin, dtype="<u8", count=size // 8, offset=at).reshape(-1, 2)
        symbol = name[len(_TEXT) :].decode()
        found[symbol] = KernelCode(name=symbol, words=words)
    return found

"""Compiles the text of emulated kernels for this computer."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

STANDARD = (
    *("algorithm", "atomic", "barrier", "cmath", "condition_variable", "cstdint", "cstring"),
    *("deque", "functional", "map", "memory", "mutex", "thread", "vector"),
)
# As on the GPU, a product and a sum become one operation of one rounding.
FUSED = ("-O1", "-fexpensive-optimizations", "-ffp-contract=fast", "-march=native")
# Constants of one program must not be taken for those of another of the same name.
FLAGS = ("-std=c++20", "-w", "-fPIC", "-pthread", "-fno-gnu-unique")
WATCHED = tuple(os.environ.get("EMULATION_FLAGS", "").split())
"""What ``scripts/sanitize_emulated.sh`` adds."""
if WATCHED:  # its library is meant for this process, not for compilers that are started from it
    os.environ.pop("LD_PRELOAD", None)


def host_library(text: str, folder: Path, *options: str) -> ctypes.CDLL:
    """C++ as a loaded library.

    Args:
        text: What is compiled.
        folder: Where source and library get a folder of their own.
        options: Of the compiler, for example ``-O1``.
    """
    own = Path(tempfile.mkdtemp(dir=folder))
    source, library = own / "kernel.cpp", own / "kernel.so"
    source.write_text(text, encoding="utf-8")
    headers = ("-include", f"{_standard_headers(options).name}/standard.hpp")
    _compile(*options, *headers, "-shared", "-o", str(library), str(source))
    return ctypes.CDLL(str(library))


def _compile(*arguments: str) -> None:
    subprocess.run(["g++", *FLAGS, *arguments, *WATCHED], check=True)


@cache
def _standard_headers(options: tuple[str, ...]) -> tempfile.TemporaryDirectory[str]:
    """The standard library's headers, parsed once: else they are most of what there is to do."""
    folder = tempfile.TemporaryDirectory(prefix="effcompile-emulation-")
    header = Path(folder.name) / "standard.hpp"
    header.write_text("".join(f"#include <{name}>\n" for name in STANDARD))
    _compile(*options, "-x", "c++-header", "-o", f"{header}.gch", str(header))
    return folder

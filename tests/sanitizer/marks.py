"""Lines in a watched process's output that tell which candidate a tool speaks of."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

BEGIN = re.compile(r"^@@ begin (\d+)$")
END = re.compile(r"^@@ end (\d+) ?(.*)$")
SETTLE_S = 0.03
"""The tool's messages come from another process; they are written by then."""


@dataclass(slots=True)
class Ran:
    """How a candidate ran: ``wrong`` is empty if its result is right."""

    wrong: str = ""


@contextmanager
def marked(index: int) -> Iterator[Ran]:
    """Lines before and after a candidate's launches; what it raises stands in the second."""
    print(f"@@ begin {index}", flush=True)
    ran = Ran()
    try:
        yield ran
    except Exception as error:
        ran.wrong = " ".join([f"{type(error).__name__}:", *str(error).split()])[:400]
    time.sleep(SETTLE_S)
    print(f"@@ end {index} {ran.wrong}".rstrip(), flush=True)

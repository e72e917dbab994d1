"""What commands print: one JSON document, or text for people, on stdout."""

from __future__ import annotations

import sys
from typing import Any

import msgspec


def print_json(value: Any) -> None:
    """One JSON document with the field names of the records."""
    encoded = msgspec.json.encode(value, enc_hook=str)
    sys.stdout.write(msgspec.json.format(encoded, indent=2).decode() + "\n")


def print_text(text: str) -> None:
    """One line or paragraph."""
    sys.stdout.write(text + "\n")

"""One finding of the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at, what was found, what to do.

    Attributes:
        name: What was looked at.
        status: ``fail`` stops tuning, ``warn`` takes something away, ``ok`` neither.
        found: Facts, for people.
        advice: What to do; empty if nothing.
    """

    name: str
    status: Status
    found: str
    advice: str = ""


def ok(name: str, found: str) -> Check:
    """A finding that needs nothing."""
    return Check(name=name, status="ok", found=found)


def warn(name: str, found: str, advice: str) -> Check:
    """Something that works less well than it could."""
    return Check(name=name, status="warn", found=found, advice=advice)


def fail(name: str, found: str, advice: str) -> Check:
    """Something that must be mended before tuning."""
    return Check(name=name, status="fail", found=found, advice=advice)

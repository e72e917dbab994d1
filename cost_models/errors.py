"""Errors of cost models."""

from __future__ import annotations

from schedules.errors import EffcompileError


class BadModels(EffcompileError):
    """A file of models is missing, damaged, or of another version."""

    exit_status = 2

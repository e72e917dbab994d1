"""Errors raised while describing what can be computed, and in which ways.

Every error of the project derives from :class:`EffcompileError`, so that the
command line can tell a stated problem from a programming mistake. A message has
three parts: what failed, what was found against what was expected, what to do.
"""

from __future__ import annotations


class EffcompileError(Exception):
    """Base of every error that this project raises on purpose.

    Attributes:
        exit_status: What the command line ends with: 1 failed, 2 unusable input.
    """

    exit_status = 1


class IllegalCandidate(EffcompileError):
    """A candidate breaks a constraint of its design space or cannot be realised."""


class UnknownSpace(EffcompileError):
    """No design space of that name serves this workload on this target."""

    exit_status = 2


class UnknownTarget(EffcompileError):
    """A target was named that is neither known nor found on this machine."""

    exit_status = 2


class BadPin(EffcompileError):
    """An installed package has a version that is known not to work."""

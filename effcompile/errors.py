"""Errors of everything that touches models, devices, files and people."""

from __future__ import annotations

from schedules.errors import EffcompileError


class UsageError(EffcompileError):
    """An option or an argument cannot be used as given; exit status 2."""

    exit_status = 2


class BadModel(EffcompileError):
    """A model file is missing, damaged, or cannot be checked."""

    exit_status = 2


class UnsupportedOperators(BadModel):
    """The model holds operators that nobody can convert; the message lists every node."""


class OpenDimensions(BadModel):
    """The model has dynamic dimensions and no values were given for them."""


class BadInput(EffcompileError):
    """An input array has the wrong name, shape or dtype."""

    exit_status = 2


class BadArtifact(EffcompileError):
    """An artifact is damaged, foreign, or was built for another device."""

    exit_status = 2


class OutputUnwritable(EffcompileError):
    """A file could not be written: no space, no right, or a failing disk."""


class DeviceUnavailable(EffcompileError):
    """The target needs a device or a driver that is not here."""


class DeviceFault(EffcompileError):
    """The device reported an error; its context may be unusable from then on."""


class WrongResult(EffcompileError):
    """A kernel does not compute what its workload says, or touches other memory."""


class CompilerUnavailable(EffcompileError):
    """The target needs a compiler that is not installed."""


class SourceRejected(EffcompileError):
    """A compiler refused a source; the message is its log."""


class PeerNotInstalled(EffcompileError):
    """A library to compare with is not here; the message says how to install it."""


class MeterUnavailable(EffcompileError):
    """An energy meter is not here, or can no longer be read."""


class MeterDenied(MeterUnavailable):
    """An energy meter is here, and this user may not read it."""


class CountersUnavailable(EffcompileError):
    """Hardware counters cannot be read: no profiler, or it profiled nothing."""


class CountersDenied(CountersUnavailable):
    """Hardware counters are here, and this user may not read them."""


class WorkerDied(EffcompileError):
    """A child process ended before it answered."""


class WorkerLate(EffcompileError):
    """A child process did not answer in time and was killed."""


class WorkerRaised(EffcompileError):
    """A child process answered with an error of its own.

    Attributes:
        kind: Class name of that error.
    """

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind

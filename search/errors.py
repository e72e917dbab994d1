"""Errors of searching and remembering."""

from __future__ import annotations

from schedules.errors import EffcompileError


class SearchError(EffcompileError):
    """Base of what can go wrong while a run is searched or its folder is read."""


class DatabaseLocked(SearchError):
    """Another process tunes in this run folder, or holds its database."""


class DatabaseDamaged(SearchError):
    """The file is not a database of this project, or its pages contradict each other."""

    exit_status = 2


class DatabaseMissing(SearchError):
    """A run folder was to be read and holds no database."""

    exit_status = 2


class DatabaseVersion(SearchError):
    """The database was written by another version of the layout."""

    exit_status = 2


class DatabaseUnwritable(SearchError):
    """A record could not be written: rights, a read-only disk, or a failing one."""


class DiskFull(DatabaseUnwritable):
    """A record could not be written because no space was left."""


class IdentityMismatch(SearchError):
    """The run folder belongs to a run whose numbers are not comparable with this one."""

    exit_status = 2


class TrialFinished(SearchError):
    """A finished trial was to be changed."""


class UnknownTrial(SearchError):
    """A trial id is not in the database, or was set aside as damaged."""


class DefaultFailed(SearchError):
    """The default schedule of a task did not run, so nothing could be compared or shipped."""


class DeviceLost(SearchError):
    """So many trials in a row died on the device that going on would only waste the budget."""


class BadRecording(SearchError):
    """A recording cannot be read, made or replayed."""

    exit_status = 2

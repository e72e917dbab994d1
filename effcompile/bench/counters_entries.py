"""What is profiled: entry points of one artifact, or of all that ``bench kernels`` left behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from effcompile.artifact import read_manifest
from effcompile.bench.kernels.compare import ARTIFACT_NAME, CASE_NAMES
from effcompile.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfiledEntry:
    """One entry point that is launched under the profiler.

    Attributes:
        artifact: Path of its ``.effc`` file.
        entry: Its name there.
        case: The case of ``bench kernels`` that it serves; empty if none.
    """

    artifact: str
    entry: str
    case: str = ""

    @property
    def name(self) -> str:
        """For people."""
        return self.case or self.entry


def entries_of(source: Path, only: Sequence[str] = ()) -> list[ProfiledEntry]:
    """The entry points of an artifact, or of every artifact in a work folder.

    Args:
        source: ``NAME.effc``, or the ``--work`` folder of ``bench kernels``.
        only: Names of cases or entry points; all if empty.

    Raises:
        BadArtifact: A file is damaged or foreign.
        UsageError: There is no artifact, it is not for CUDA, or a name is not among them.
    """
    artifacts = sorted(source.glob(f"*/{ARTIFACT_NAME}")) if source.is_dir() else [source]
    if not artifacts:
        raise UsageError(
            f"no {ARTIFACT_NAME} below {source}: expected NAME.effc or the --work folder of a "
            "finished effcompile bench kernels."
        )
    found = [one for artifact in artifacts for one in _entries_in(artifact)]
    if unknown := sorted(set(only) - {one.name for one in found}):
        raise UsageError(
            f"no {', '.join(unknown)} in {source}: expected one of "
            f"{', '.join(one.name for one in found)}."
        )
    return [one for one in found if not only or one.name in only]


def _entries_in(artifact: Path) -> list[ProfiledEntry]:
    manifest = read_manifest(artifact)
    if manifest.target.kind != "cuda":
        raise UsageError(
            f"{artifact} was built for {manifest.target.name}: only kernels of a CUDA GPU have "
            "the counters that are read here."
        )
    names = artifact.parent / CASE_NAMES
    cases = msgspec.json.decode(names.read_bytes(), type=dict[str, str]) if names.exists() else {}
    return [
        ProfiledEntry(artifact=str(artifact), entry=one.name, case=cases.get(one.name, ""))
        for one in manifest.entries
    ]

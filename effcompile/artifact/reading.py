"""Reads an artifact: its frame is checked first, every payload before its first use."""

from __future__ import annotations

import hashlib
import mmap
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
import numpy.typing as npt

from effcompile.artifact.frame import (
    LOCAL_HEADER,
    MANIFEST_MEMBER,
    Span,
    expected_digest,
    frame_digest,
    member_spans,
    refused,
)
from effcompile.dtypes import dtype_named
from effcompile.errors import BadArtifact
from effcompile.manifest import FORMAT_VERSION, Manifest, StoredParameter

_LARGEST_MANIFEST_BYTES = 256 * 1024 * 1024


def read_manifest(path: Path) -> Manifest:
    """The manifest of an artifact whose frame is intact; payloads are not read.

    Raises:
        BadArtifact: The file is missing, cut short, damaged, foreign, or of a newer format.
    """
    with ArtifactReader(path) as reader:
        return reader.manifest


def verify_artifact(path: Path) -> Manifest:
    """Read every byte of an artifact and compare every checksum.

    Raises:
        BadArtifact: See :func:`read_manifest`; the message names the damaged member.
    """
    with ArtifactReader(path) as reader:
        reader.library_bytes()
        for spec in reader.manifest.parameters:
            reader.parameter(spec)
        return reader.manifest


class ArtifactReader:
    """An open artifact: checked frame, payloads mapped in place.

    Arrays from :meth:`parameter` keep the mapping alive after :meth:`close`.
    """

    def __init__(self, path: Path) -> None:
        """Open and check the frame.

        Raises:
            BadArtifact: See :func:`read_manifest`.
        """
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                self._spans, self.manifest = _read_frame(self.path, file)
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (FileNotFoundError, IsADirectoryError):
            raise BadArtifact(
                f"cannot open artifact {self.path}: no such file. "
                "Make one with: effcompile build RUN_FOLDER --out FILE.effc"
            ) from None
        except OSError as error:
            raise BadArtifact(
                f"cannot read artifact {self.path}: {error.strerror}. "
                "Check the permissions and the disk."
            ) from error

    def __enter__(self) -> ArtifactReader:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the mapping; arrays that were handed out keep it."""
        del self._map

    def library_bytes(self) -> bytes:
        """The shared library, compared with its checksum.

        Raises:
            BadArtifact: The bytes are not those that were written.
        """
        stored = self.manifest.library
        if stored is None:
            raise refused(self.path, "its manifest names no library")
        span = self._spans[stored.member]
        payload = bytes(memoryview(self._map)[span.start : span.end])
        self._compare(stored.member, payload, stored.sha256)
        return payload

    def parameter(self, stored: StoredParameter, *, verify: bool = True) -> npt.NDArray[np.generic]:
        """One parameter, mapped; pages are read when touched and never written back.

        Args:
            stored: Its entry in the manifest.
            verify: Compare with the checksum, which reads the whole payload.

        Raises:
            BadArtifact: The bytes are not those that were written.
        """
        span = self._spans[stored.member]
        if verify:
            view = memoryview(self._map)[span.start : span.end]
            self._compare(stored.member, view, stored.sha256)
        dtype = dtype_named(stored.dtype)
        count = span.size // dtype.itemsize
        flat = np.frombuffer(self._map, dtype=dtype, count=count, offset=span.start)
        return flat.reshape(stored.shape)

    def _compare(self, member: str, payload: bytes | memoryview, expected: str) -> None:
        found = hashlib.sha256(payload).hexdigest()
        if found != expected:
            raise refused(
                self.path, f"{member} is damaged: checksum {found[:12]}..., not {expected[:12]}..."
            )


def _read_frame(path: Path, file: IO[bytes]) -> tuple[dict[str, Span], Manifest]:
    try:
        archive = zipfile.ZipFile(file)
    # The parser meets damaged numbers, so it fails in more ways than its own error.
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError) as error:
        raise refused(path, _why_no_archive(file, error)) from error
    expected = expected_digest(path, archive.comment)
    spans = member_spans(path, file, archive)
    if frame_digest(file, spans) != expected:
        raise refused(path, "its headers or its manifest are damaged: checksum mismatch")
    manifest = _decode_manifest(path, file, spans)
    _check_members(path, spans, manifest)
    return spans, manifest


def _why_no_archive(file: IO[bytes], error: Exception) -> str:
    file.seek(0)
    start = file.read(4)
    if not start:
        return "the file is empty"
    if start != LOCAL_HEADER:
        return f"it is no effcompile artifact: it starts with {start!r}, not {LOCAL_HEADER!r}"
    return f"it is cut short or damaged at its end ({error})"


def _decode_manifest(path: Path, file: IO[bytes], spans: Mapping[str, Span]) -> Manifest:
    span = spans.get(MANIFEST_MEMBER)
    if span is None or span.size > _LARGEST_MANIFEST_BYTES:
        raise refused(path, "its manifest is missing or too large")
    file.seek(span.start)
    try:
        manifest = msgspec.json.decode(file.read(span.size), type=Manifest)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise refused(path, f"its manifest does not parse: {error}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise refused(path, f"its manifest is of format {manifest.format_version}")
    return manifest


def _check_members(path: Path, spans: Mapping[str, Span], manifest: Manifest) -> None:
    """The manifest and the file must name the same members with the same sizes."""
    if manifest.library is None:
        raise refused(path, "its manifest names no library")
    declared = {manifest.library.member: manifest.library.size_bytes}
    declared |= {stored.member: stored.size_bytes for stored in manifest.parameters}
    found = {name: span.size for name, span in spans.items() if name != MANIFEST_MEMBER}
    if declared != found:
        differing = sorted(name for name, _ in declared.items() ^ found.items())
        raise refused(path, f"manifest and content disagree on {', '.join(differing[:5])}")
    known = {stored.parameter_id for stored in manifest.parameters}
    for entry in manifest.entries:
        if missing := sorted(set(entry.parameters) - known):
            raise refused(path, f"entry {entry.name} needs parameters that it lacks: {missing}")
    for stored in manifest.parameters:
        expected = int(np.prod(stored.shape, dtype=np.int64)) * _itemsize(path, stored)
        if expected != stored.size_bytes:
            raise refused(
                path,
                f"{stored.member} has {stored.size_bytes} bytes, "
                f"but {stored.dtype}{list(stored.shape)} takes {expected}",
            )


def _itemsize(path: Path, stored: StoredParameter) -> int:
    try:
        return dtype_named(stored.dtype).itemsize
    except TypeError as error:
        raise refused(path, f"{stored.member} has an unknown dtype {stored.dtype!r}") from error

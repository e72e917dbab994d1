"""The frame of an artifact: where its members lie, and the checksum of all that is no payload."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from effcompile.errors import BadArtifact
from effcompile.manifest import FORMAT_VERSION

MANIFEST_MEMBER = "manifest.json"
LOCAL_HEADER = b"PK\x03\x04"
LOCAL_HEADER_BYTES = 30
DIGEST_CHARS = 64
CHUNK_BYTES = 1 << 24
_MEMBER = re.compile(r"manifest\.json|lib/[A-Za-z0-9_-]{1,64}\.so|params/[A-Za-z0-9_-]{1,128}\.bin")
_COMMENT = re.compile(rb"effcompile artifact format=(\d{1,6}) sha256=([0-9a-f]{64})")
_REBUILD = "Build the artifact again from its run folder, or copy it again from where it is whole."


@dataclass(frozen=True, slots=True)
class Span:
    """Where a member's payload lies in the file, in bytes."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.start + self.size


def refused(path: Path, reason: str) -> BadArtifact:
    """The error of a file that is no whole artifact."""
    return BadArtifact(f"cannot use artifact {path}: {reason}. {_REBUILD}")


def comment_of(digest: str) -> bytes:
    """The archive's comment, which ends with the checksum of the frame."""
    return f"effcompile artifact format={FORMAT_VERSION} sha256={digest}".encode()


def expected_digest(path: Path, comment: bytes) -> str:
    """The checksum that the archive's comment holds.

    Raises:
        BadArtifact: It is another comment, or that of a newer format.
    """
    match = _COMMENT.fullmatch(comment)
    if match is None:
        raise refused(path, "it is a zip archive, but no effcompile artifact, or cut short")
    version = int(match.group(1))
    if version > FORMAT_VERSION:
        raise BadArtifact(
            f"cannot use artifact {path}: its format is {version}, this effcompile reads up to "
            f"{FORMAT_VERSION}. Upgrade effcompile, or build the artifact again with this one."
        )
    return match.group(2).decode()


def member_spans(path: Path, file: IO[bytes], archive: zipfile.ZipFile) -> dict[str, Span]:
    """Payload of every member; names, sizes and order are checked before anything is read.

    Raises:
        BadArtifact: They are not those of an artifact.
    """
    spans: dict[str, Span] = {}
    limit = archive.start_dir
    previous_end = 0
    for info in archive.infolist():
        name = info.orig_filename
        if not _MEMBER.fullmatch(name):
            raise refused(path, f"it holds a member {name[:80]!r}, which no artifact has")
        if name in spans:
            raise refused(path, f"it holds {name} twice")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise refused(path, f"{name} is compressed; artifacts store everything as it is")
        span = Span(_payload_start(path, file, info, limit), info.file_size)
        if info.header_offset < previous_end or span.end > limit:
            raise refused(path, f"{name} overlaps another member or leaves the file")
        previous_end = span.end
        spans[name] = span
    return spans


def _payload_start(path: Path, file: IO[bytes], info: zipfile.ZipInfo, limit: int) -> int:
    if not 0 <= info.header_offset <= limit - LOCAL_HEADER_BYTES:
        raise refused(path, f"{info.orig_filename} leaves the file")
    file.seek(info.header_offset)
    header = file.read(LOCAL_HEADER_BYTES)
    if len(header) < LOCAL_HEADER_BYTES or header[:4] != LOCAL_HEADER:
        raise refused(path, f"the header of {info.orig_filename} is damaged")
    n_name, n_extra = struct.unpack_from("<HH", header, 26)
    return int(info.header_offset + LOCAL_HEADER_BYTES + n_name + n_extra)


def frame_digest(file: IO[bytes], spans: Mapping[str, Span]) -> str:
    """Checksum of every byte outside library and parameters, but for the checksum at the end."""
    file_end = file.seek(0, os.SEEK_END) - DIGEST_CHARS
    payloads = sorted(
        (span.start, span.end) for name, span in spans.items() if name != MANIFEST_MEMBER
    )
    digest = hashlib.sha256()
    position = 0
    for start, end in [*payloads, (file_end, file_end)]:
        file.seek(position)
        remaining = start - position
        while remaining > 0:
            chunk = file.read(min(remaining, CHUNK_BYTES))
            if not chunk:
                break
            digest.update(chunk)
            remaining -= len(chunk)
        position = end
    return digest.hexdigest()

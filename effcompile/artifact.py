"""One file that holds a compiled module: library, parameters, manifest.

An ``.effc`` file is a zip archive without compression, so that any zip tool can look
inside and parameters can be mapped into memory in place::

    lib/module.so          the library
    params/<id>.bin        one per parameter, starting on a 64-byte boundary
    manifest.json          what it all is, with the checksum of every payload
    (central directory)
    comment                "effcompile artifact format=1 sha256=<frame checksum>"

The *frame* is every byte outside the library and the parameters: headers, padding,
manifest, directory and the comment up to its checksum. Reading checks the frame first
and each payload before its first use, so no byte of the file is unprotected. The
checksums find damage; they are no signature: a library is native code, so load only
artifacts whose origin you trust.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec
import numpy as np
import numpy.typing as npt

from effcompile.dtypes import dtype_named, name_of
from effcompile.errors import BadArtifact
from effcompile.manifest import FORMAT_VERSION, Manifest, StoredLibrary, StoredParameter
from effcompile.output_files import replacing

ALIGNMENT_BYTES = 64
LIBRARY_MEMBER = "lib/module.so"
MANIFEST_MEMBER = "manifest.json"
_LARGEST_MANIFEST_BYTES = 256 * 1024 * 1024
_MEMBER = re.compile(r"manifest\.json|lib/[A-Za-z0-9_-]{1,64}\.so|params/[A-Za-z0-9_-]{1,128}\.bin")
_PARAMETER_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_COMMENT = re.compile(rb"effcompile artifact format=(\d{1,6}) sha256=([0-9a-f]{64})")
_DIGEST_CHARS = 64
_LOCAL_HEADER_BYTES = 30
_ZIP64_EXTRA_BYTES = 20
_PADDING_TAG = 0xD935
_CHUNK_BYTES = 1 << 24

_REBUILD = "Build the artifact again from its run folder, or copy it again from where it is whole."


@dataclass(frozen=True, slots=True)
class _Span:
    """Where a member's payload lies in the file."""

    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


def write_artifact(
    path: Path,
    manifest: Manifest,
    library: Path | bytes,
    parameters: Mapping[str, npt.NDArray[np.generic]],
) -> Manifest:
    """Write an artifact beside its place, sync it, and move it there in one step.

    Args:
        path: The file to write or replace.
        manifest: Its ``library`` and ``parameters`` are ignored and filled in.
        library: The shared library, or the path of it.
        parameters: Every tensor that an entry point names, by id.

    Returns:
        The manifest as stored.

    Raises:
        BadArtifact: An entry names a parameter that is not given, a parameter is used by no
            entry, or an id cannot be a file name.
        UsageError: The file's folder does not exist.
        OutputUnwritable: For example because the disk is full.
    """
    _check_parameter_ids(manifest, parameters)
    path = Path(path)
    with replacing(path) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            stored_library = _store_library(archive, library)
            stored = tuple(
                _store_parameter(archive, parameter_id, array)
                for parameter_id, array in sorted(parameters.items())
            )
            manifest = replace(
                manifest,
                library=stored_library,
                parameters=stored,
                format_version=FORMAT_VERSION,
            )
            _store(archive, MANIFEST_MEMBER, msgspec.json.encode(manifest))
            archive.comment = _comment("0" * _DIGEST_CHARS)
        _seal(file)
    return manifest


def replace_manifest(path: Path, manifest: Manifest) -> Manifest:
    """Store another manifest, for example with measured numbers, in front of the same payloads."""
    with ArtifactReader(path) as reader:
        arrays = {spec.parameter_id: reader.parameter(spec) for spec in reader.manifest.parameters}
        return write_artifact(path, manifest, reader.library_bytes(), arrays)


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
            raise _refused(self.path, "its manifest names no library")
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
            raise _refused(
                self.path, f"{member} is damaged: checksum {found[:12]}..., not {expected[:12]}..."
            )


# Writing ------------------------------------------------------------------------------------


def _check_parameter_ids(
    manifest: Manifest, parameters: Mapping[str, npt.NDArray[np.generic]]
) -> None:
    used = {name for entry in manifest.entries for name in entry.parameters}
    missing, unused = sorted(used - set(parameters)), sorted(set(parameters) - used)
    if missing or unused:
        raise BadArtifact(
            f"cannot write an artifact: parameters without data {missing}, data that no entry "
            f"uses {unused}. Give exactly the parameters that the entry points name."
        )
    odd = sorted(name for name in parameters if not _PARAMETER_ID.fullmatch(name))
    if odd:
        raise BadArtifact(
            f"cannot write an artifact: parameter ids {odd} cannot be file names. "
            "Use letters, digits, - and _ only."
        )


def _store_library(archive: zipfile.ZipFile, library: Path | bytes) -> StoredLibrary:
    payload = library if isinstance(library, bytes) else Path(library).read_bytes()
    sha256 = _store(archive, LIBRARY_MEMBER, payload)
    return StoredLibrary(member=LIBRARY_MEMBER, size_bytes=len(payload), sha256=sha256)


def _store_parameter(
    archive: zipfile.ZipFile, parameter_id: str, array: npt.NDArray[np.generic]
) -> StoredParameter:
    array = np.asarray(array)
    # ``ascontiguousarray`` would turn a scalar into a vector.
    array = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    payload = array.reshape(-1).view(np.uint8).data
    member = f"params/{parameter_id}.bin"
    return StoredParameter(
        parameter_id=parameter_id,
        member=member,
        shape=tuple(array.shape),
        dtype=name_of(array.dtype),
        size_bytes=array.nbytes,
        sha256=_store(archive, member, payload),
    )


def _store(archive: zipfile.ZipFile, member: str, payload: bytes | memoryview) -> str:
    """Add a member that starts on an aligned offset; returns its checksum."""
    assert archive.fp is not None
    info = zipfile.ZipInfo(member)
    info.external_attr = 0o600 << 16
    info.file_size = len(payload)
    start = archive.fp.tell() + _LOCAL_HEADER_BYTES + len(member.encode()) + _ZIP64_EXTRA_BYTES
    n_zeros = -(start + 4) % ALIGNMENT_BYTES
    info.extra = struct.pack("<HH", _PADDING_TAG, n_zeros) + bytes(n_zeros)
    digest = hashlib.sha256()
    # 64-bit sizes always, so that the header's length does not depend on the payload's.
    with archive.open(info, "w", force_zip64=True) as stream:
        for first in range(0, len(payload), _CHUNK_BYTES):
            chunk = payload[first : first + _CHUNK_BYTES]
            digest.update(chunk)
            stream.write(chunk)
    return digest.hexdigest()


def _comment(digest: str) -> bytes:
    return f"effcompile artifact format={FORMAT_VERSION} sha256={digest}".encode()


def _seal(file: IO[bytes]) -> None:
    """Put the checksum of the frame at the very end."""
    file.flush()
    with zipfile.ZipFile(file) as archive:
        spans = _member_spans(Path("new file"), file, archive)
    digest = _frame_digest(file, _payload_spans(spans))
    file.seek(-_DIGEST_CHARS, os.SEEK_END)
    file.write(digest.encode())


# Reading ------------------------------------------------------------------------------------


def _refused(path: Path, reason: str) -> BadArtifact:
    return BadArtifact(f"cannot use artifact {path}: {reason}. {_REBUILD}")


def _read_frame(path: Path, file: IO[bytes]) -> tuple[dict[str, _Span], Manifest]:
    try:
        archive = zipfile.ZipFile(file)
    # The parser meets damaged numbers, so it fails in more ways than its own error.
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError) as error:
        raise _refused(path, _why_no_archive(file, error)) from error
    expected = _expected_digest(path, archive.comment)
    spans = _member_spans(path, file, archive)
    if _frame_digest(file, _payload_spans(spans)) != expected:
        raise _refused(path, "its headers or its manifest are damaged: checksum mismatch")
    manifest = _decode_manifest(path, file, spans)
    _check_members(path, spans, manifest)
    return spans, manifest


def _why_no_archive(file: IO[bytes], error: Exception) -> str:
    file.seek(0)
    start = file.read(4)
    if not start:
        return "the file is empty"
    if start != b"PK\x03\x04":
        return f"it is no effcompile artifact: it starts with {start!r}, not b'PK\\x03\\x04'"
    return f"it is cut short or damaged at its end ({error})"


def _expected_digest(path: Path, comment: bytes) -> str:
    match = _COMMENT.fullmatch(comment)
    if match is None:
        raise _refused(path, "it is a zip archive, but no effcompile artifact, or cut short")
    version = int(match.group(1))
    if version > FORMAT_VERSION:
        raise BadArtifact(
            f"cannot use artifact {path}: its format is {version}, this effcompile reads up to "
            f"{FORMAT_VERSION}. Upgrade effcompile, or build the artifact again with this one."
        )
    return match.group(2).decode()


def _member_spans(path: Path, file: IO[bytes], archive: zipfile.ZipFile) -> dict[str, _Span]:
    """Payload of every member; names, sizes and order are checked before anything is read."""
    spans: dict[str, _Span] = {}
    limit = archive.start_dir
    previous_end = 0
    for info in archive.infolist():
        name = info.orig_filename
        if not _MEMBER.fullmatch(name):
            raise _refused(path, f"it holds a member {name[:80]!r}, which no artifact has")
        if name in spans:
            raise _refused(path, f"it holds {name} twice")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise _refused(path, f"{name} is compressed; artifacts store everything as it is")
        span = _Span(_payload_start(path, file, info, limit), info.file_size)
        if info.header_offset < previous_end or span.end > limit:
            raise _refused(path, f"{name} overlaps another member or leaves the file")
        previous_end = span.end
        spans[name] = span
    return spans


def _payload_start(path: Path, file: IO[bytes], info: zipfile.ZipInfo, limit: int) -> int:
    if not 0 <= info.header_offset <= limit - _LOCAL_HEADER_BYTES:
        raise _refused(path, f"{info.orig_filename} leaves the file")
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER_BYTES)
    if len(header) < _LOCAL_HEADER_BYTES or header[:4] != b"PK\x03\x04":
        raise _refused(path, f"the header of {info.orig_filename} is damaged")
    n_name, n_extra = struct.unpack_from("<HH", header, 26)
    return int(info.header_offset + _LOCAL_HEADER_BYTES + n_name + n_extra)


def _payload_spans(spans: Mapping[str, _Span]) -> list[_Span]:
    return sorted(
        (span for name, span in spans.items() if name != MANIFEST_MEMBER),
        key=lambda span: span.start,
    )


def _frame_digest(file: IO[bytes], payloads: Sequence[_Span]) -> str:
    """Checksum of every byte outside the payloads, but for the checksum at the end."""
    file_end = file.seek(0, os.SEEK_END) - _DIGEST_CHARS
    digest = hashlib.sha256()
    position = 0
    for start, end in [*((span.start, span.end) for span in payloads), (file_end, file_end)]:
        file.seek(position)
        remaining = start - position
        while remaining > 0:
            chunk = file.read(min(remaining, _CHUNK_BYTES))
            if not chunk:
                break
            digest.update(chunk)
            remaining -= len(chunk)
        position = end
    return digest.hexdigest()


def _decode_manifest(path: Path, file: IO[bytes], spans: Mapping[str, _Span]) -> Manifest:
    span = spans.get(MANIFEST_MEMBER)
    if span is None or span.size > _LARGEST_MANIFEST_BYTES:
        raise _refused(path, "its manifest is missing or too large")
    file.seek(span.start)
    try:
        manifest = msgspec.json.decode(file.read(span.size), type=Manifest)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise _refused(path, f"its manifest does not parse: {error}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise _refused(path, f"its manifest is of format {manifest.format_version}")
    return manifest


def _check_members(path: Path, spans: Mapping[str, _Span], manifest: Manifest) -> None:
    """The manifest and the file must name the same members with the same sizes."""
    if manifest.library is None:
        raise _refused(path, "its manifest names no library")
    declared = {manifest.library.member: manifest.library.size_bytes}
    declared |= {stored.member: stored.size_bytes for stored in manifest.parameters}
    found = {name: span.size for name, span in spans.items() if name != MANIFEST_MEMBER}
    if declared != found:
        differing = sorted(name for name, _ in declared.items() ^ found.items())
        raise _refused(path, f"manifest and content disagree on {', '.join(differing[:5])}")
    known = {stored.parameter_id for stored in manifest.parameters}
    for entry in manifest.entries:
        if missing := sorted(set(entry.parameters) - known):
            raise _refused(path, f"entry {entry.name} needs parameters that it lacks: {missing}")
    for stored in manifest.parameters:
        expected = int(np.prod(stored.shape, dtype=np.int64)) * _itemsize(path, stored)
        if expected != stored.size_bytes:
            raise _refused(
                path,
                f"{stored.member} has {stored.size_bytes} bytes, "
                f"but {stored.dtype}{list(stored.shape)} takes {expected}",
            )


def _itemsize(path: Path, stored: StoredParameter) -> int:
    try:
        return dtype_named(stored.dtype).itemsize
    except TypeError as error:
        raise _refused(path, f"{stored.member} has an unknown dtype {stored.dtype!r}") from error

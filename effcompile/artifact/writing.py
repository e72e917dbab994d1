"""Writes an artifact beside its place, and moves it there in one step."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
import numpy.typing as npt

from effcompile.artifact.frame import (
    CHUNK_BYTES,
    DIGEST_CHARS,
    LOCAL_HEADER_BYTES,
    MANIFEST_MEMBER,
    comment_of,
    frame_digest,
    member_spans,
)
from effcompile.artifact.reading import ArtifactReader
from effcompile.dtypes import name_of
from effcompile.errors import BadArtifact
from effcompile.manifest import FORMAT_VERSION, Manifest, StoredLibrary, StoredParameter
from effcompile.output_files import replacing

ALIGNMENT_BYTES = 64
LIBRARY_MEMBER = "lib/module.so"
_PARAMETER_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ZIP64_EXTRA_BYTES = 20
_PADDING_TAG = 0xD935


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
            archive.comment = comment_of("0" * DIGEST_CHARS)
        _seal(file)
    return manifest


def replace_manifest(path: Path, manifest: Manifest) -> Manifest:
    """Store another manifest, for example with measured numbers, in front of the same payloads."""
    with ArtifactReader(path) as reader:
        arrays = {spec.parameter_id: reader.parameter(spec) for spec in reader.manifest.parameters}
        return write_artifact(path, manifest, reader.library_bytes(), arrays)


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
    start = archive.fp.tell() + LOCAL_HEADER_BYTES + len(member.encode()) + _ZIP64_EXTRA_BYTES
    n_zeros = -(start + 4) % ALIGNMENT_BYTES
    info.extra = struct.pack("<HH", _PADDING_TAG, n_zeros) + bytes(n_zeros)
    digest = hashlib.sha256()
    # 64-bit sizes always, so that the header's length does not depend on the payload's.
    with archive.open(info, "w", force_zip64=True) as stream:
        for first in range(0, len(payload), CHUNK_BYTES):
            chunk = payload[first : first + CHUNK_BYTES]
            digest.update(chunk)
            stream.write(chunk)
    return digest.hexdigest()


def _seal(file: IO[bytes]) -> None:
    """Put the checksum of the frame at the very end."""
    file.flush()
    with zipfile.ZipFile(file) as archive:
        spans = member_spans(Path("new file"), file, archive)
    digest = frame_digest(file, spans)
    file.seek(-DIGEST_CHARS, os.SEEK_END)
    file.write(digest.encode())

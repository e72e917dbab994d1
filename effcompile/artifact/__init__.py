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

from effcompile.artifact.reading import ArtifactReader, read_manifest, verify_artifact
from effcompile.artifact.writing import replace_manifest, write_artifact

__all__ = [
    "ArtifactReader",
    "read_manifest",
    "replace_manifest",
    "verify_artifact",
    "write_artifact",
]

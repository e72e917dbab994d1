"""Artifacts: what is written is read, and nothing damaged is."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effcompile.artifact import (
    ArtifactReader,
    read_manifest,
    replace_manifest,
    verify_artifact,
    write_artifact,
)
from effcompile.errors import BadArtifact
from effcompile.manifest import Manifest
from effcompile.signature import ArgumentSpec, EntryPoint
from schedules.target import Target

TARGET = Target(kind="llvm", arch="x86-64-v3", name="test", n_cores=2)
ARRAYS = {
    "a": np.arange(35, dtype=np.float32).reshape(5, 7),
    "b": np.array(3, dtype=np.int64),
    "c": np.arange(8).astype(ml_dtypes.bfloat16),
    "empty": np.zeros((0, 4), dtype=np.float16),
}
LIBRARY = bytes(range(256)) * 5


def make_manifest(parameters: tuple[str, ...] = tuple(ARRAYS)) -> Manifest:
    x = ArgumentSpec(name="x", shape=(1, "T"), dtype="float32")
    return Manifest(
        target=TARGET,
        entries=(EntryPoint(name="main", inputs=(x,), outputs=(x,), parameters=parameters),),
        seed=11,
    )


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "m.effc"
    write_artifact(path, make_manifest(), LIBRARY, ARRAYS)
    return path


def test_what_is_written_is_read(artifact: Path) -> None:
    with ArtifactReader(artifact) as reader:
        assert reader.library_bytes() == LIBRARY
        for stored in reader.manifest.parameters:
            expected = ARRAYS[stored.parameter_id]
            found = reader.parameter(stored)
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
        assert reader.manifest.entries == make_manifest().entries
        assert reader.manifest.seed == 11


def test_returned_manifest_equals_the_stored_one(tmp_path: Path) -> None:
    path = tmp_path / "m.effc"
    assert write_artifact(path, make_manifest(), LIBRARY, ARRAYS) == read_manifest(path)


def test_parameters_lie_on_64_byte_boundaries(artifact: Path) -> None:
    with ArtifactReader(artifact) as reader:
        for stored in reader.manifest.parameters:
            array = reader.parameter(stored)
            assert array.size == 0 or array.ctypes.data % 64 == 0


def test_any_zip_tool_can_open_it(artifact: Path) -> None:
    with zipfile.ZipFile(artifact) as archive:
        assert archive.testzip() is None
        assert archive.read("params/a.bin") == ARRAYS["a"].tobytes()


def test_mapped_parameters_outlive_the_reader_and_never_reach_the_file(artifact: Path) -> None:
    before = artifact.read_bytes()
    with ArtifactReader(artifact) as reader:
        array = reader.parameter(reader.manifest.parameters[0])
    array[...] = 0
    assert artifact.read_bytes() == before


def test_unusual_memory_layouts_are_stored_by_value(tmp_path: Path) -> None:
    path = tmp_path / "m.effc"
    swapped = np.arange(6, dtype=">f8").reshape(2, 3).T
    write_artifact(path, make_manifest(("s",)), LIBRARY, {"s": swapped})
    with ArtifactReader(path) as reader:
        np.testing.assert_array_equal(reader.parameter(reader.manifest.parameters[0]), swapped)


def test_replaced_manifest_keeps_the_payloads(artifact: Path) -> None:
    manifest = read_manifest(artifact)
    changed = replace_manifest(artifact, Manifest(target=TARGET, entries=manifest.entries, seed=99))
    assert verify_artifact(artifact) == changed
    assert changed.seed == 99
    assert changed.parameters == manifest.parameters


def test_file_cut_anywhere_is_refused(artifact: Path, tmp_path: Path) -> None:
    whole = artifact.read_bytes()
    cut = tmp_path / "cut.effc"
    for length in [*range(0, len(whole), 37), *range(len(whole) - 160, len(whole))]:
        cut.write_bytes(whole[:length])
        with pytest.raises(BadArtifact, match=r"cannot (use|read)"):
            verify_artifact(cut)


def test_every_single_flipped_byte_is_refused(artifact: Path, tmp_path: Path) -> None:
    whole = artifact.read_bytes()
    flipped = tmp_path / "flipped.effc"
    rng = np.random.default_rng(0)
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= int(rng.integers(1, 256))
        flipped.write_bytes(damaged)
        with pytest.raises(BadArtifact):
            verify_artifact(flipped)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused(junk: bytes) -> None:
    path = Path(f"/proc/self/fd/{os.memfd_create('junk')}")
    path.write_bytes(junk)
    try:
        with pytest.raises(BadArtifact):
            read_manifest(path)
    finally:
        os.close(int(path.name))


def test_damaged_parameter_is_named(artifact: Path) -> None:
    whole = bytearray(artifact.read_bytes())
    whole[whole.index(ARRAYS["a"].tobytes()) + 9] ^= 1
    artifact.write_bytes(whole)
    read_manifest(artifact)
    with pytest.raises(BadArtifact, match=r"params/a\.bin is damaged"):
        verify_artifact(artifact)


def test_appended_bytes_are_refused(artifact: Path) -> None:
    artifact.write_bytes(artifact.read_bytes() + b"x")
    with pytest.raises(BadArtifact):
        read_manifest(artifact)


def test_prepended_bytes_are_refused(artifact: Path) -> None:
    artifact.write_bytes(b"#!/bin/sh\n" + artifact.read_bytes())
    with pytest.raises(BadArtifact):
        read_manifest(artifact)


def test_foreign_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", "{}")
    with pytest.raises(BadArtifact, match="no effcompile artifact"):
        read_manifest(path)


def test_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x07\x12\x07pytorch" * 40)
    with pytest.raises(BadArtifact, match="it is no effcompile artifact"):
        read_manifest(path)


def test_missing_file_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(BadArtifact, match="no such file"):
        read_manifest(tmp_path / "absent.effc")


def test_newer_format_says_upgrade(artifact: Path) -> None:
    artifact.write_bytes(artifact.read_bytes().replace(b"format=1 ", b"format=7 "))
    with pytest.raises(BadArtifact, match="its format is 7, this effcompile reads up to 1"):
        read_manifest(artifact)


@pytest.mark.parametrize(
    "name", ["../escape.so", "/etc/passwd", "lib/../../x.so", "params/a/b.bin"]
)
def test_member_names_that_leave_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    path = sealed_zip(tmp_path, {name: b"x"})
    with pytest.raises(BadArtifact, match="which no artifact has"):
        read_manifest(path)


def test_compressed_member_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    path = sealed_zip(tmp_path, {"manifest.json": bytes(1 << 22)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 20_000
    with pytest.raises(BadArtifact, match="is compressed"):
        read_manifest(path)


def sealed_zip(folder: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    """A zip that carries an artifact's comment but not its content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, payload in members.items():
            archive.writestr(name, payload)
        archive.comment = b"effcompile artifact format=1 sha256=" + b"0" * 64
    path = folder / "made.effc"
    path.write_bytes(buffer.getvalue())
    return path


def test_parameter_that_no_entry_uses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArtifact, match=r"data that no entry uses \['extra'\]"):
        write_artifact(tmp_path / "m.effc", make_manifest(()), LIBRARY, {"extra": np.zeros(1)})


def test_failed_write_leaves_the_old_artifact_and_no_litter(artifact: Path) -> None:
    before = artifact.read_bytes()
    with pytest.raises(TypeError):
        write_artifact(artifact, make_manifest(("s",)), LIBRARY, {"s": np.array(["text"])})
    assert artifact.read_bytes() == before
    assert [path.name for path in artifact.parent.iterdir()] == [artifact.name]

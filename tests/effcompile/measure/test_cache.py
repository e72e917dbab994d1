from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from effcompile.measure.cache import DiskCache, write_beside

KEY = "ab" * 32


def test_what_was_put_comes_back(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    cache.put(KEY, b"payload")
    assert cache.get(KEY) == b"payload"
    assert cache.get("cd" * 32) is None


@pytest.mark.parametrize("cut", range(0, 39, 3))
def test_an_entry_cut_anywhere_counts_as_absent(tmp_path: Path, cut: int) -> None:
    cache = DiskCache(tmp_path)
    cache.put(KEY, b"payload")
    path = cache.path_of(KEY)
    path.write_bytes(path.read_bytes()[:cut])
    assert cache.get(KEY) is None
    assert not path.exists()


def test_a_flipped_bit_counts_as_absent(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    cache.put(KEY, b"payload")
    data = bytearray(cache.path_of(KEY).read_bytes())
    data[-1] ^= 1
    cache.path_of(KEY).write_bytes(bytes(data))
    assert cache.get(KEY) is None


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, max_bytes=400)
    keys = [f"{index:02x}" * 32 for index in range(1, 5)]
    for age, key in enumerate(keys):
        cache.put(key, bytes(100))
        os.utime(cache.path_of(key), (age, age))
    cache.get(keys[0])
    cache.clean()
    assert cache.get(keys[0]) is not None
    assert cache.get(keys[1]) is None
    assert cache.get(keys[3]) is not None


def test_a_disk_that_takes_nothing_costs_the_entry_only(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    cache = DiskCache(blocked)
    cache.put(KEY, b"payload")
    assert cache.get(KEY) is None


def test_many_writers_of_one_entry_leave_a_whole_one(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from effcompile.measure.cache import DiskCache\n"
        f"cache = DiskCache(Path({str(tmp_path)!r}))\n"
        f"for _ in range(200): cache.put({KEY!r}, sys.argv[1].encode() * 5000)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    writers = [
        subprocess.Popen([sys.executable, "-c", code, letter], env=environment) for letter in "xy"
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert DiskCache(tmp_path).get(KEY) in (b"x" * 5000, b"y" * 5000)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [KEY]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_beside(path, b"old")
    with pytest.raises(TypeError):
        write_beside(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]

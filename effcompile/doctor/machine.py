"""Checks of the host: processor, memory, disks, linker, CPU energy counters."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from effcompile.doctor.check import Check, fail, ok, warn
from effcompile.measure.cache import user_cache_dir

_GIB = 1024**3
_LEAST_FREE_BYTES = 1 * _GIB
_LEAST_MEMORY_BYTES = 3 * _GIB
_LINKERS = ("g++", "gcc", "clang++", "clang", "c++", "cc")
_RAPL = Path("/sys/class/powercap")


def linker() -> Check:
    """Compiled code is linked into libraries by the system's compiler driver."""
    path = next((found for name in _LINKERS if (found := shutil.which(name))), None)
    advice = "Install gcc or clang, for example: apt-get install gcc. Artifacts run without one."
    if path is None:
        return fail("linker", f"none of {', '.join(_LINKERS)}", advice)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "trial.c"
        source.write_text("int trial(void) { return 0; }\n")
        command = [path, "-shared", "-fPIC", str(source), "-o", str(Path(folder) / "trial.so")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        told = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return fail("linker", f"{path} cannot link a shared library: {told}", advice)
    return ok("linker", path)


def processor() -> Check:
    """Name, cores and vector instructions of the CPU."""
    info = _first_cpu()
    flags = set(info.get("flags", "").split())
    vectors = next((name for name in ("avx512f", "avx2", "avx") if name in flags), "no AVX")
    name = info.get("model name", "unknown model")
    usable = len(os.sched_getaffinity(0))
    return ok("processor", f"{name}, {usable} of {os.cpu_count()} logical cores usable, {vectors}")


def _first_cpu() -> dict[str, str]:
    text = Path("/proc/cpuinfo").read_text()
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}


def memory() -> Check:
    """Main memory that the tuner and its build processes may take."""
    import psutil

    available = int(psutil.virtual_memory().available)
    found = f"{available / _GIB:.1f} GiB available"
    if available < _LEAST_MEMORY_BYTES:
        return warn("memory", found, "Close other programs, or lower the number of build workers.")
    return ok("memory", found)


def current_folder() -> Check:
    """Where run folders go unless ``--out`` says otherwise."""
    return _folder("current folder", Path.cwd())


def cache_folder() -> Check:
    """Where compiled candidates are kept."""
    return _folder("cache folder", user_cache_dir())


def _folder(name: str, folder: Path) -> Check:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    found = f"{folder}: {free / _GIB:.1f} GiB free"
    if not os.access(existing, os.W_OK | os.X_OK):
        return fail(name, f"{found}, not writable", f"Make {existing} writable for this user.")
    if free < _LEAST_FREE_BYTES:
        return warn(name, found, "Free some space: a run needs up to 1 GiB.")
    return ok(name, found)


def temporary_folder() -> Check:
    """Libraries are unpacked there for the moment of loading."""
    name, folder = "temporary folder", Path(tempfile.gettempdir())
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return fail(
            name,
            f"{folder} is mounted noexec: libraries cannot be loaded from it",
            "Set TMPDIR to a folder on a disk that allows execution.",
        )
    return _folder(name, folder)


def cpu_energy() -> Check:
    """Energy counters of the CPU (RAPL)."""
    name = "CPU energy"
    counters = sorted(_RAPL.glob("intel-rapl:*/energy_uj"))
    without = "On the CPU target energy stays unmeasured and latency alone is tuned"
    if not counters:
        return warn(name, f"no RAPL counters under {_RAPL}", f"{without}.")
    blocked = [str(path) for path in counters if not os.access(path, os.R_OK)]
    if blocked:
        return warn(
            name,
            f"not readable: {', '.join(blocked)}",
            f"{without}. To change that: sudo chmod a+r {' '.join(blocked)}",
        )
    from effcompile.doctor.meter_text import idle_text
    from effcompile.errors import MeterUnavailable
    from effcompile.measure.rapl import RaplMeter

    try:
        return ok(name, idle_text(RaplMeter(_RAPL)))
    except MeterUnavailable as error:
        return warn(name, str(error), f"{without}.")

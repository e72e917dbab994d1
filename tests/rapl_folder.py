"""A powercap folder as Linux shows it."""

from __future__ import annotations

from pathlib import Path


def package(root: Path, index: int, energy_uj: int, range_uj: int = 999_999) -> Path:
    folder = root / f"intel-rapl:{index}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"package-{index}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return folder / "energy_uj"

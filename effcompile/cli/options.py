"""Values that users type: shapes, percentages, ``name=path`` pairs, configuration files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import msgspec

from effcompile.config import TuneConfig, converted
from effcompile.errors import UsageError


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """``["x=1,128"]`` as ``{"x": (1, 128)}``.

    Raises:
        UsageError: A text is not NAME=EXTENT,... with whole numbers, or names an input twice.
    """
    shapes = {}
    for text in texts:
        name, equals, extents = text.rpartition("=")
        parts = extents.split(",")
        if not equals or not name or not all(part.strip().isdigit() for part in parts):
            raise UsageError(
                f"cannot read --shape {text!r}: expected NAME=EXTENT,EXTENT,... with whole "
                "numbers, for example --shape x=1,128."
            )
        if name in shapes:
            raise UsageError(f"--shape names {name!r} twice: give each input once.")
        shapes[name] = tuple(int(part) for part in parts)
    return shapes


def parse_share(text: str, option: str) -> float:
    """``2%`` or ``0.02`` as 0.02.

    Raises:
        UsageError: Not a number, or not between 0 and 1.
    """
    number = text.strip().removesuffix("%")
    try:
        value = float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise UsageError(
            f"cannot read {option} {text!r}: expected a percentage such as 2% or a share "
            "from 0 to below 1 such as 0.02."
        )
    return value


def parse_pairs(texts: Sequence[str], option: str, names: Sequence[str]) -> dict[str, Path]:
    """``["x=x.npy"]`` as ``{"x": Path("x.npy")}``.

    Args:
        texts: As given.
        option: Names the option in messages.
        names: What may be named, for the message only.

    Raises:
        UsageError: A text has no ``=``, or a name is given twice.
    """
    pairs: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise UsageError(
                f"cannot read {option} {text!r}: expected NAME=FILE with the name "
                f"{' or '.join(names)}, for example {option} {names[0]}=FILE.npy."
            )
        if name in pairs:
            raise UsageError(f"{option} names {name!r} twice: give each name once.")
        pairs[name] = Path(path)
    return pairs


def read_config(path: Path) -> dict[str, Any]:
    """Settings from a TOML file with the sections ``search``, ``build``, ``measure``.

    Raises:
        UsageError: The file cannot be read, or names a setting that does not exist.
    """
    try:
        values = msgspec.toml.decode(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read --config {path}: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read --config {path}: {error}. Expected a TOML file with the sections "
            "search, build and measure; --print-config shows every setting."
        ) from error
    _refuse_unknown(values, TuneConfig, str(path))
    return dict(values)


def merged(config: TuneConfig, values: dict[str, Any], origin: str) -> TuneConfig:
    """The configuration with some settings replaced.

    Raises:
        UsageError: A value has the wrong type or is out of range.
    """
    base = msgspec.to_builtins(config)
    for section, settings in values.items():
        base[section] = {**base[section], **settings}
    return converted(base, origin)


def _refuse_unknown(values: Any, record: Any, origin: str) -> None:
    known = {field.name: field for field in fields(record)}
    for name, value in values.items():
        if name not in known:
            raise UsageError(
                f"{origin} sets {name!r}, which does not exist: expected one of "
                f"{', '.join(sorted(known))}."
            )
        default = getattr(record(), name)
        if is_dataclass(default):
            if not isinstance(value, dict):
                raise UsageError(f"{origin}: {name} must be a section, found {value!r}.")
            _refuse_unknown(value, type(default), f"{origin}, section {name}")

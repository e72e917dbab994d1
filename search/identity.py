"""What makes the numbers of two runs comparable, and how to say that they are not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from schedules.target import Target
from search.config import SearchConfig
from search.errors import IdentityMismatch

PREDICTED_BY = "predicted_by"
"""Key of the versions of a run that measured nothing: the models its numbers come from."""

REPLAYED = "replayed"
"""Key of the device of a run that was answered from a recording."""

BUDGET_FIELDS = ("n_trials", "max_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Everything that must stay the same for a run to be continued.

    Attributes:
        model_hash: Content hash of the model that is tuned.
        target: What it is compiled for.
        device: Fingerprint of the device: UUID, driver, limits.
        settings: Search and measuring settings without the budget, by dotted name.
        versions: Packages and formats that change code or measurements.
    """

    model_hash: str
    target: Target
    device: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    schema_version: int = 1


def search_settings(config: SearchConfig) -> dict[str, Any]:
    """The settings of the search that belong to the identity, as they are read back: all but the
    budget."""
    fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(config))
    return {f"search.{name}": fields[name] for name in fields if name not in BUDGET_FIELDS}


def explain_differences(recorded: Identity, found: Identity) -> list[str]:
    """One sentence per differing field, in a stable order; empty if equal."""
    old, new = _flatten(msgspec.to_builtins(recorded)), _flatten(msgspec.to_builtins(found))
    return [
        f"{name}: recorded {_text(old, name)}, found {_text(new, name)}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def require_same(recorded: Identity, found: Identity, *, folder: str) -> None:
    """Refuse to continue a run under another identity.

    Raises:
        IdentityMismatch: They differ; every differing field is named.
    """
    differences = explain_differences(recorded, found)
    if differences:
        listed = "\n  ".join(differences)
        another = recorded.model_hash != found.model_hash
        raise IdentityMismatch(
            f"cannot continue the run in {folder}, "
            f"{'it tunes another model' if another else 'its numbers would not be comparable'}:\n"
            f"  {listed}\n"
            f"Use the recorded {'model' if another else 'settings'}, "
            "or start a new run in another folder with --out."
        )


def _flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, entry in value.items():
        if isinstance(entry, dict):
            flat.update(_flatten(entry, f"{prefix}{name}."))
        else:
            flat[prefix + name] = entry
    return flat


def _text(fields: dict[str, Any], name: str) -> str:
    return repr(fields[name]) if name in fields else "nothing"

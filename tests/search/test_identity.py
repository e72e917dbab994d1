from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from schedules.target import known_target
from search.config import SearchConfig
from search.errors import IdentityMismatch
from search.identity import Identity, explain_differences, require_same, search_settings

BASE = Identity(
    model_hash="abc",
    target=known_target("h200"),
    device={"uuid": "GPU-1", "driver": "580"},
    settings=search_settings(SearchConfig()),
    versions={"measure": "1"},
)


def test_equal_identities_have_no_differences() -> None:
    assert explain_differences(BASE, replace(BASE)) == []


def test_every_differing_field_is_named_with_both_values() -> None:
    other = replace(
        BASE,
        target=known_target("h100"),
        device={"uuid": "GPU-1"},
        settings=search_settings(SearchConfig(seed=5)),
    )
    assert explain_differences(BASE, other) == [
        "device.driver: recorded '580', found nothing",
        "settings.search.seed: recorded 0, found 5",
        "target.cache_bytes: recorded 62914560, found 52428800",
        "target.name: recorded 'NVIDIA H200', found 'NVIDIA H100 80GB HBM3'",
    ]


def test_settings_are_the_same_when_read_back() -> None:
    settings = search_settings(SearchConfig(spaces=("tvm",)))
    recorded = msgspec.convert(
        msgspec.json.decode(msgspec.json.encode(replace(BASE, settings=settings))), Identity
    )
    require_same(recorded, replace(BASE, settings=settings), folder="runs/x")


def test_the_budget_may_grow() -> None:
    grown = search_settings(SearchConfig(n_trials=9999, max_seconds=5.0))
    require_same(BASE, replace(BASE, settings=grown), folder="runs/x")


def test_a_mismatch_says_what_to_do() -> None:
    with pytest.raises(IdentityMismatch, match=r"(?s)runs/x.*model_hash.*--out"):
        require_same(BASE, replace(BASE, model_hash="other"), folder="runs/x")

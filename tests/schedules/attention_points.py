"""Points of attention on warpgroups that tests start from."""

from __future__ import annotations

HEADWISE_POINT: dict[str, int | str] = {
    "warpgroups": 2,
    "key_tile": 128,
    "stages": 2,
    "turns": "pingpong",
    "products": "overlapped",
    "blocks": "per_tile",
    "cluster": 1,
}
MASKED_POINT = HEADWISE_POINT | {"order": "by_head", "splits": 1, "launches": "in_turn"}

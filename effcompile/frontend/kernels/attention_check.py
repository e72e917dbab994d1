"""What an attention must be given, as far as shapes are known: kernels read where they are told."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

from effcompile.frontend.kernels.attention_rule import AttentionRule
from effcompile.frontend.kernels.marking import type_of


def check_attention(
    query: Any, key: Any, value: Any, *, rule: AttentionRule, mask: Any, lengths: Any
) -> None:
    """Refuse operands that do not belong together; see ``attention_call`` for the arguments.

    Raises:
        ValueError: Says which, with what was found and expected.
    """
    q, k, v = (type_of(x)[0] for x in (query, key, value))
    if any(len(shape) != 4 for shape in (q, k, v)):
        raise ValueError(
            f"query, key and value must be (batch, heads, tokens, width), found {q}, {k}, {v}"
        )
    pairs = {
        "batch of query and key": (q[0], k[0]),
        "batch of key and value": (k[0], v[0]),
        "heads of key and value": (k[1], v[1]),
        "tokens of key and value": (k[2], v[2]),
        "width of query and key": (q[3], k[3]),
    }
    for name, (one, other) in pairs.items():
        if _differ(one, other):
            raise ValueError(f"{name} must agree, found {one} and {other}")
    if isinstance(q[1], int) and isinstance(k[1], int) and q[1] % k[1]:
        raise ValueError(f"{k[1]} key heads cannot be shared by {q[1]} query heads")
    _check_rule(rule)
    if mask is not None:
        _check_mask(type_of(mask), [q[0], q[1], q[2], k[2]])
    n_lengths = [q[0]] if lengths is None else type_of(lengths)[0]
    if len(n_lengths) != 1 or _differ(n_lengths[0], q[0]):
        raise ValueError(f"lengths must be one per sequence ({q[0]}), found {n_lengths}")


def _differ(one: Any, other: Any) -> bool:
    return isinstance(one, int) and isinstance(other, int) and one != other


def _check_rule(rule: AttentionRule) -> None:
    if rule.scale is not None and not isfinite(rule.scale):
        raise ValueError(f"scale is {rule.scale}, expected a finite number")
    if not (isfinite(rule.softcap) and rule.softcap >= 0):
        raise ValueError(f"softcap is {rule.softcap}, expected a positive number, or 0 for none")


def _check_mask(mask: tuple[list[Any], str], scores: Sequence[Any]) -> None:
    shape, dtype = mask
    fits = len(shape) == 4 and not any(
        _differ(own, whole) and own != 1 for own, whole in zip(shape, scores, strict=True)
    )
    if not fits:
        raise ValueError(f"the mask has shape {shape}, expected {list(scores)}, or 1 for an axis")
    if dtype != "bool" and "float" not in dtype:
        raise ValueError(f"the mask is of {dtype}, expected bool or floats")

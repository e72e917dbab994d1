"""What attention does with positions and scores, known when a model is read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionRule:
    """Which keys a query may attend, and how scores are formed.

    Query ``i`` stands at position ``p = i + offset``; where valid lengths are given and
    ``at_end`` is true, at ``p = i + length - query tokens`` instead.

    Attributes:
        scale: Multiplies the scores; ``None`` means one over the root of the head width.
        causal: Keys after ``p`` are masked.
        offset: Tokens that precede the first query.
        at_end: Queries are the last of the valid tokens.
        softcap: Scores become ``softcap * tanh(score / softcap)``; 0 leaves them.
        window_left: Keys before ``p - window_left`` are masked; -1 masks none.
        window_right: Keys after ``p + window_right`` are masked; -1 masks none.
    """

    scale: float | None = None
    causal: bool = False
    offset: int = 0
    at_end: bool = False
    softcap: float = 0.0
    window_left: int = -1
    window_right: int = -1

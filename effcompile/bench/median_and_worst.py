"""Of numbers of which some may be missing: the middle one and the greatest, for a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def median_and_worst(values: Sequence[float | None], form: str) -> str:
    """Both, and how often there was none.

    Args:
        values: ``None`` where something never happened.
        form: How a number is written, as ``format`` takes it.
    """
    known = [one for one in values if one is not None]
    if not known:
        return "never"
    n_missing = len(values) - len(known)
    missing = f" ({n_missing} never)" if n_missing else ""
    return f"{np.median(known):{form}}, {max(known):{form}}{missing}"

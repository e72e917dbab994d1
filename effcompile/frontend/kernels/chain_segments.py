"""Chains of linked rows as segments, as tensor expressions: every place by counting.

The counts are of all rows before, so the work grows with the square of the rows; a device of
which a family knows better (``schedules.chain_segments``) does without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from effcompile.frontend.kernels.marking import marked_call


def chain_segments_call(
    builder: Any, cosine: Any, threshold: Any, *, places: int, groups: int
) -> Any:
    """Which rows become one: a row is linked to the one ``places`` before it.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        cosine: float32, shape (rows,): see ``frame_cosine_call``.
        threshold: float32, shape (1,): the least cosine of a link.
        places: Rows of one frame.
        groups: Segments that there is room for; how many there are depends on the data.

    Returns:
        ``rows`` (rows,) and ``starts`` (groups + 1,) as ``segment_mean_call`` takes them, segments
        in the order of their first rows; these, (groups,), -1 beyond the last; and the number of
        segments, (1,), which exceeds ``groups`` if there was no room. All int32.
    """

    def definition(values: Any, least: Any) -> Any:
        return _chain_segments(values, least, places, groups)

    attrs = {"places": places}
    return marked_call(builder, definition, [cosine, threshold], op="chain_segments", attrs=attrs)


def _chain_segments(cosine: Any, threshold: Any, places: int, groups: int) -> Any:
    from tvm import te, tirx

    n_rows = int(cosine.shape[0])
    n_frames = -(-n_rows // places)
    shape = (n_rows,)

    def is_linked(row: Any) -> Any:
        safe = tirx.max(tirx.min(row, n_rows - 1), 0)
        return tirx.all(row >= places, row < n_rows, cosine(safe) >= threshold(0))

    def total(name: str, extent: int, term: Callable[[Any, Any], Any], size: int) -> Any:
        j = te.reduce_axis((0, extent), "j")
        return te.compute((size,), lambda i: te.sum(term(i, j), axis=j), name=name)

    def nearest(name: str, holds: Callable[[Any, Any], Any]) -> Any:
        """The smallest number of frames for which something holds."""
        k = te.reduce_axis((0, n_frames + 1), "k")
        return te.compute(
            shape,
            lambda i: te.min(tirx.Select(holds(i, k), k, n_frames), axis=k),
            name=name,
        )

    depth = nearest("depth", lambda i, k: tirx.Not(is_linked(i - k * places)))
    length = nearest("length", lambda i, k: tirx.all(k > 0, tirx.Not(is_linked(i + k * places))))

    def heads_rows(i: Any) -> Any:
        """Rows of the chain that a row heads, else 0."""
        return tirx.Select(depth(i) == 0, length(i), 0)

    index = total(
        "index", n_rows, lambda i, j: tirx.Select(tirx.all(j < i, depth(j) == 0), 1, 0), n_rows
    )
    offset = total("offset", n_rows, lambda i, j: tirx.Select(j < i, heads_rows(j), 0), n_rows)
    place = te.compute(
        shape, lambda i: offset(tirx.max(i - depth(i) * places, 0)) + depth(i), name="place"
    )

    def inverse(name: str, size: int, holds: Callable[[Any, Any], Any]) -> Any:
        """The row for which something holds, -1 where there is none."""
        j = te.reduce_axis((0, n_rows), "j")
        return te.compute(
            (size,), lambda i: te.max(tirx.Select(holds(i, j), j, -1), axis=j), name=name
        )

    rows = inverse("rows", n_rows, lambda i, j: place(j) == i)
    heads = inverse("heads", groups, lambda g, j: tirx.all(depth(j) == 0, index(j) == g))
    starts = total(
        "starts", n_rows, lambda g, j: tirx.Select(index(j) < g, heads_rows(j), 0), groups + 1
    )
    count = total("count", n_rows, lambda _, j: tirx.Select(depth(j) == 0, 1, 0), 1)
    return [rows, starts, heads, count]

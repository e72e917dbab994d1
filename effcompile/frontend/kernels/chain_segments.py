"""Chains of linked rows as segments, and other lists of rows, as tensor expressions.

Places are found by counting over all rows, so the work grows with the square of the rows; a device
of which a family knows better (``schedules.chain_segments``, ``schedules.top_rows``) does without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from effcompile.frontend.kernels.marking import marked_call


def chain_segments_call(
    builder: Any,
    cosine: Any,
    threshold: Any,
    *,
    groups: int,
    places: int = 0,
    previous: Any = None,
    most: Any = None,
) -> Any:
    """Which rows become one: those linked to each other, one after the other.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        cosine: float32, shape (rows,): see ``frame_cosine_call``.
        threshold: float32, shape (1,): the least cosine of a link.
        groups: Segments that there is room for; how many there are depends on the data.
        places: Rows of one frame: row i may be linked to row ``i - places``.
        previous: int32, shape (rows,): row i may be linked to row ``previous[i]``, an earlier one
            that no other row names; to none if negative. Exactly one of the two is given.
        most: int32, shape (1,): only so many links, those of the largest cosines, lower rows first
            where these are equal. ``None`` for all.

    Returns:
        ``rows`` (rows,) and ``starts`` (groups + 1,) as ``segment_mean_call`` takes them, segments
        in the order of their first rows; these, (groups,), -1 beyond the last; and the number of
        segments, (1,), which exceeds ``groups`` if there was no room. All int32.
    """
    is_listed, is_limited = previous is not None, most is not None

    def definition(values: Any, least: Any, *rest: Any) -> Any:
        parts = list(rest)
        before = parts.pop(0) if is_listed else lambda i: i - places
        linked = _links(values, least, before, parts.pop(0) if is_limited else None)
        head, depth = _walked(linked, before) if is_listed else _counted(linked, places)
        return _segments(head, depth, groups)

    inputs = [cosine, threshold, *(one for one in (previous, most) if one is not None)]
    attrs = {"places": places, "listed": is_listed, "limited": is_limited}
    return marked_call(builder, definition, inputs, op="chain_segments", attrs=attrs)


def top_rows_call(builder: Any, scores: Any, count: Any, *, groups: int) -> Any:
    """The rows of the ``count`` largest scores, in their order, lower rows first among equals.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        scores: float32, shape (rows,), no NaN.
        count: int32, shape (1,).
        groups: Rows that there is room for.

    Returns:
        int32, shape (groups,), -1 beyond the last.
    """

    def definition(values: Any, wanted: Any) -> Any:
        from tvm import tirx

        n_rows = int(values.shape[0])
        rank = _rank(values, lambda j: j >= 0)
        kept = _column("kept", n_rows, lambda i: _number(rank(i) < wanted(0)))
        index = _count("index", n_rows, n_rows, lambda i, j: tirx.all(j < i, kept(j) == 1))
        return _row_where(
            "rows", groups, n_rows, lambda g, j: tirx.all(kept(j) == 1, index(j) == g)
        )

    return marked_call(builder, definition, [scores, count], op="top_rows", attrs={})


def previous_rows_call(builder: Any, place: Any) -> Any:
    """The nearest row before each that has the same place.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        place: int32, shape (rows,): within a frame; negative for rows that follow none.

    Returns:
        int32, shape (rows,), -1 where there is none.
    """

    def definition(places: Any) -> Any:
        from tvm import tirx

        n_rows = int(places.shape[0])

        def is_before(i: Any, j: Any) -> Any:
            return tirx.all(j < i, places(j) == places(i), places(i) >= 0)

        return _row_where("previous_rows", n_rows, n_rows, is_before)

    return marked_call(builder, definition, [place], op="previous_rows", attrs={})


def _links(cosine: Any, threshold: Any, before: Any, most: Any) -> Any:
    """1 for every row that is linked to the one before it, else 0."""
    from tvm import tirx

    n_rows = int(cosine.shape[0])

    def may_be(i: Any) -> Any:
        return tirx.all(before(i) >= 0, before(i) < i, cosine(i) >= threshold(0))

    candidate = _column("candidate", n_rows, lambda i: _number(may_be(i)))
    if most is None:
        return candidate
    rank = _rank(cosine, lambda j: candidate(j) == 1)
    return _column(
        "linked", n_rows, lambda i: _number(tirx.all(candidate(i) == 1, rank(i) < most(0)))
    )


def _rank(values: Any, counts: Callable[[Any], Any]) -> Any:
    """Rows that count and come first: larger ones, and lower rows that are equal."""
    from tvm import tirx

    n_rows = int(values.shape[0])

    def is_first(i: Any, j: Any) -> Any:
        equal = tirx.all(values(j) == values(i), j < i)
        return tirx.all(counts(j), tirx.any(values(j) > values(i), equal))

    return _count("rank", n_rows, n_rows, is_first)


def _counted(linked: Any, places: int) -> tuple[Any, Any]:
    """The head of every row's chain, and how many links it is away, where frames are regular."""
    from tvm import te, tirx

    n_rows = int(linked.shape[0])
    n_frames = -(-n_rows // places)
    k = te.reduce_axis((0, n_frames), "k")

    def is_head(row: Any) -> Any:
        return tirx.any(row < 0, linked(tirx.max(row, 0)) == 0)

    def frames(i: Any) -> Any:
        return te.min(tirx.Select(is_head(i - k * places), k, n_frames), axis=k)

    depth = te.compute((n_rows,), frames, name="depth")
    return _column("head", n_rows, lambda i: i - depth(i) * places), depth


def _walked(linked: Any, previous: Any) -> tuple[Any, Any]:
    """The same by following a list, one row after the other."""
    from tvm import te, tirx

    n_rows = int(linked.shape[0])

    def walk(sources: Any, results: Any) -> Any:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as tir

        is_linked, before = map(tir.buffer_proxy, sources)
        head, depth = map(tir.buffer_proxy, results)
        with IRBuilder() as builder, tir.serial(0, n_rows) as i:
            known = is_linked[i] == 1
            head[i] = tirx.if_then_else(known, head[before[i]], i)
            depth[i] = tirx.if_then_else(known, depth[before[i]] + 1, 0)
        return builder.get()

    head, depth = te.extern(
        [(n_rows,)] * 2, [linked, previous], walk, dtype=["int32"] * 2, name="chains"
    )
    return head, depth


def _segments(head: Any, depth: Any, groups: int) -> list[Any]:
    """See :func:`chain_segments_call`."""
    from tvm import tirx

    n_rows = int(head.shape[0])
    length = _count("length", n_rows, n_rows, lambda i, j: head(j) == i)
    index = _count("index", n_rows, n_rows, lambda i, j: tirx.all(j < i, depth(j) == 0))
    offset = _sum("offset", n_rows, n_rows, lambda i, j: tirx.Select(j < i, length(j), 0))
    place = _column("place", n_rows, lambda i: offset(head(i)) + depth(i))

    def opens(g: Any, j: Any) -> Any:
        return tirx.all(depth(j) == 0, index(j) == g)

    def rows_before(g: Any, j: Any) -> Any:
        return tirx.Select(index(j) < g, length(j), 0)

    return [
        _row_where("rows", n_rows, n_rows, lambda i, j: place(j) == i),
        _sum("starts", groups + 1, n_rows, rows_before),
        _row_where("heads", groups, n_rows, opens),
        _count("count", 1, n_rows, lambda _, j: depth(j) == 0),
    ]


def _number(condition: Any) -> Any:
    from tvm import tirx

    return tirx.Select(condition, tirx.const(1, "int32"), tirx.const(0, "int32"))


def _column(name: str, size: int, value: Callable[[Any], Any]) -> Any:
    from tvm import te

    return te.compute((size,), value, name=name)


def _sum(name: str, size: int, n_terms: int, term: Callable[[Any, Any], Any]) -> Any:
    from tvm import te

    j = te.reduce_axis((0, n_terms), "j")
    return te.compute((size,), lambda i: te.sum(term(i, j), axis=j), name=name)


def _count(name: str, size: int, n_terms: int, holds: Callable[[Any, Any], Any]) -> Any:
    return _sum(name, size, n_terms, lambda i, j: _number(holds(i, j)))


def _row_where(name: str, size: int, n_rows: int, holds: Callable[[Any, Any], Any]) -> Any:
    """The row for which something holds, -1 where there is none."""
    from tvm import te, tirx

    j = te.reduce_axis((0, n_rows), "j")
    return te.compute((size,), lambda i: te.max(tirx.Select(holds(i, j), j, -1), axis=j), name=name)

"""Operators that merge rows: means of segments, mixtures, cosines, partial softmax results.

Everywhere ``x`` has shape (repetitions, rows, width); sums are float32. Indices outside their
range are moved to its nearest end.
"""

from __future__ import annotations

from typing import Any

from effcompile.frontend.kernels.marking import marked_call, type_of

NO_PREDECESSOR = -2.0
SMALLEST_SQUARE = 1e-16


def segment_mean_call(
    builder: Any, x: Any, starts: Any, *, rows: Any = None, longest: int = 0
) -> Any:
    """Mean of each segment of rows; zeros for an empty one.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        x: Shape (repetitions, rows, width).
        starts: int32, shape (groups + 1,): segment g holds the entries ``starts[g]`` to
            ``starts[g + 1] - 1`` of ``rows``.
        rows: int32, shape (entries,): rows of ``x``; ``None`` means all in order.
        longest: Entries of a segment beyond these many do not count; 0 for no limit.
    """
    n_rows = type_of(x)[0][1]
    n_listed = n_rows if rows is None else type_of(rows)[0][0]
    longest = min(longest, n_listed) if longest > 0 else n_listed

    def definition(data: Any, *rest: Any) -> Any:
        return _segment_mean(data, rest[-1], rest[0] if len(rest) > 1 else None, longest)

    inputs = [x, starts] if rows is None else [x, rows, starts]
    attrs = {"longest": longest}
    return marked_call(builder, definition, inputs, op="segment_mean", attrs=attrs)


def _segment_mean(x: Any, starts: Any, rows: Any, longest: int) -> Any:
    from tvm import te, tirx

    repetitions, n_rows, width = x.shape
    n_listed = n_rows if rows is None else rows.shape[0]
    groups = starts.shape[0] - 1
    step = te.reduce_axis((0, longest), "step")

    def begin(g: Any) -> Any:
        return clamped(starts(g), n_listed)

    def length(g: Any) -> Any:
        end = clamped(starts(g + 1), n_listed)
        return tirx.max(tirx.min(end - begin(g), longest), 0)

    def term(o: Any, g: Any, i: Any) -> Any:
        at = tirx.min(begin(g) + step, n_listed - 1)
        row = at if rows is None else clamped(rows(at), n_rows - 1)
        value = x(o, row, i).astype("float32")
        return tirx.if_then_else(step < length(g), value, tirx.const(0.0, "float32"))

    total = te.compute(
        (repetitions, groups, width),
        lambda o, g, i: te.sum(term(o, g, i), axis=step),
        name="segment_sum",
    )
    return te.compute(
        total.shape,
        lambda o, g, i: (total(o, g, i) / tirx.max(length(g), 1).astype("float32")).astype(x.dtype),
        name="segment_mean",
    )


def clamped(index: Any, last: Any) -> Any:
    """``index`` as the nearest of 0 to ``last``."""
    from tvm import tirx

    return tirx.max(tirx.min(index, last), 0)


def gather_rows_call(builder: Any, x: Any, index: Any) -> Any:
    """``y[:, g] = x[:, index[g]]``; ``index`` int32, shape (groups,)."""

    def definition(data: Any, places: Any) -> Any:
        from tvm import te

        shape = (data.shape[0], places.shape[0], data.shape[2])
        last = data.shape[1] - 1
        return te.compute(
            shape, lambda o, g, i: data(o, clamped(places(g), last), i), name="gather_rows"
        )

    return marked_call(builder, definition, [x, index], op="gather_rows", attrs={})


def blend_rows_call(builder: Any, x: Any, low: Any, high: Any, weight: Any) -> Any:
    """``y[:, g] = (1 - weight[g]) x[:, low[g]] + weight[g] x[:, high[g]]``.

    A row with weight 0 is not read, so it may hold anything. ``low`` and ``high`` are int32,
    ``weight`` float32, all of shape (groups,).
    """

    def definition(data: Any, first: Any, second: Any, share: Any) -> Any:
        from tvm import te

        shape = (data.shape[0], first.shape[0], data.shape[2])
        last = data.shape[1] - 1

        def blended(o: Any, g: Any, i: Any) -> Any:
            one = data(o, clamped(first(g), last), i)
            two = data(o, clamped(second(g), last), i)
            return mixed(one, two, 1.0 - share(g), share(g)).astype(data.dtype)

        return te.compute(shape, blended, name="blend_rows")

    return marked_call(builder, definition, [x, low, high, weight], op="blend_rows", attrs={})


def mixed(one: Any, two: Any, first: Any, second: Any) -> Any:
    """``first * one + second * two`` in float32; what has weight 0 counts as 0."""
    from tvm import tirx

    zero = tirx.const(0.0, "float32")

    def term(weight: Any, value: Any) -> Any:
        return tirx.if_then_else(weight == zero, zero, weight * value.astype("float32"))

    return term(first, one) + term(second, two)


def renoise_rows_call(builder: Any, noise: Any, clean: Any, index: Any, sigma: Any) -> Any:
    """``y[:, g] = sigma noise[:, index[g]] + (1 - sigma) clean[:, g]``; ``sigma`` of shape (1,)."""

    def definition(source: Any, kept: Any, places: Any, share: Any) -> Any:
        from tvm import te

        last = source.shape[1] - 1

        def renoised(o: Any, g: Any, i: Any) -> Any:
            one = source(o, clamped(places(g), last), i)
            return mixed(one, kept(o, g, i), share(0), 1.0 - share(0)).astype(kept.dtype)

        return te.compute(kept.shape, renoised, name="renoise_rows")

    inputs = [noise, clean, index, sigma]
    return marked_call(builder, definition, inputs, op="renoise_rows", attrs={})


def select_rows_call(builder: Any, fresh: Any, cache: Any, source: Any) -> Any:
    """``y[:, h] = cache[:, source[h]]`` where ``source[h] >= 0``, else ``fresh[:, h]``."""

    def definition(new: Any, old: Any, places: Any) -> Any:
        from tvm import te, tirx

        def selected(o: Any, h: Any, i: Any) -> Any:
            kept = old(o, clamped(places(h), old.shape[1] - 1), i)
            return tirx.if_then_else(places(h) < 0, new(o, h, i), kept)

        return te.compute(new.shape, selected, name="select_rows")

    return marked_call(builder, definition, [fresh, cache, source], op="select_rows", attrs={})


def frame_cosine_call(builder: Any, x: Any, *, places: int = 0, previous: Any = None) -> Any:
    """Cosine of every row with the one before it in time, float32, shape (rows,).

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        x: Shape (rows, width).
        places: Rows of one frame: row i follows row ``i - places``.
        previous: int32, shape (rows,): row i follows ``previous[i]``, none if negative.
            Exactly one of the two is given.

    Returns:
        -2 where no row comes before. Norms below 1e-8 count as 1e-8.
    """

    def definition(data: Any, *rest: Any) -> Any:
        before = rest[0] if rest else None
        return _frame_cosine(data, before, places)

    inputs = [x] if previous is None else [x, previous]
    return marked_call(builder, definition, inputs, op="frame_cosine", attrs={"places": places})


def _frame_cosine(x: Any, previous: Any, places: int) -> Any:
    from tvm import te, tirx

    n_rows, width = x.shape

    def before(i: Any) -> Any:
        return i - places if previous is None else previous(i)

    def mate(i: Any) -> Any:
        return clamped(before(i), n_rows - 1)

    def total(name: str, one: Any, two: Any) -> Any:
        k = te.reduce_axis((0, width), "k")
        return te.compute(
            (n_rows,),
            lambda i: te.sum(
                x(one(i), k).astype("float32") * x(two(i), k).astype("float32"), axis=k
            ),
            name=name,
        )

    dot = total("cosine_dot", lambda i: i, mate)
    square = total("cosine_square", lambda i: i, lambda i: i)
    least = tirx.const(SMALLEST_SQUARE, "float32")

    def norm(i: Any) -> Any:
        return te.sqrt(tirx.max(square(i), least))

    return te.compute(
        (n_rows,),
        lambda i: tirx.if_then_else(
            before(i) < 0,
            tirx.const(NO_PREDECESSOR, "float32"),
            dot(i) / (norm(i) * norm(mate(i))),
        ),
        name="frame_cosine",
    )


def combine_partials_call(builder: Any, parts: Any, sums: Any, *, dtype: str = "") -> Any:
    """Attention over parts of the keys, combined: ``y = sum_s exp(sums_s - lse) parts_s``.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        parts: Shape (splits, rows, width).
        sums: float32, shape (splits, rows): logarithm of each part's sum of exponentials;
            minus infinity for a part without keys, which is not read.
        dtype: Of the result; empty for that of ``parts``.

    Returns:
        The combined rows, (rows, width), and ``lse``, (rows,). A row without any key gives
        zeros and minus infinity.
    """

    def definition(data: Any, logs: Any) -> Any:
        return _combined(data, logs, dtype or data.dtype)

    return marked_call(builder, definition, [parts, sums], op="combine_partials", attrs={})


def _combined(parts: Any, sums: Any, dtype: str) -> Any:
    from tvm import te, tirx

    splits, rows, width = parts.shape
    s_max, s_sum, s_row = (te.reduce_axis((0, splits), name) for name in ("sm", "ss", "sr"))
    none, zero = tirx.min_value("float32"), tirx.const(0.0, "float32")
    largest = te.compute(
        (rows,), lambda r: te.max(tirx.max(sums(s_max, r), none), axis=s_max), name="largest"
    )

    def weight(s: Any, r: Any) -> Any:
        return te.exp(sums(s, r) - largest(r))

    total = te.compute((rows,), lambda r: te.sum(weight(s_sum, r), axis=s_sum), name="total")

    def term(s: Any, r: Any, i: Any) -> Any:
        value = weight(s, r) * parts(s, r, i).astype("float32")
        return tirx.if_then_else(weight(s, r) == zero, zero, value)

    mixture = te.compute(
        (rows, width), lambda r, i: te.sum(term(s_row, r, i), axis=s_row), name="mixture"
    )

    def result(r: Any, i: Any) -> Any:
        value = mixture(r, i) / total(r)
        return tirx.if_then_else(total(r) == zero, zero, value).astype(dtype)

    combined = te.compute((rows, width), result, name="combined")
    lse = te.compute(
        (rows,),
        lambda r: tirx.if_then_else(
            total(r) == zero, tirx.const(float("-inf"), "float32"), largest(r) + te.log(total(r))
        ),
        name="lse",
    )
    return [combined, lse]

"""Attention of few queries as workloads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schedules import _tvm
from schedules.programs import workload_of
from schedules.workload import Attribute, Workload


@dataclass(frozen=True, kw_only=True)
class Decode:
    """One workload; ``mask`` and ``lengths`` are dtypes, ``page`` the tokens of a page, if any."""

    heads: int
    kv_heads: int
    keys: int
    width: int
    batch: int = 1
    queries: int = 1
    value_width: int = 0
    dtype: str = "float16"
    mask: tuple[tuple[int, ...], str] | None = None
    lengths: str = ""
    causal: bool = False
    offset: int = 0
    at_end: bool = False
    softcap: float = 0.0
    window_left: int = -1
    window_right: int = -1
    page: int = 0

    def workload(self) -> Workload:
        """What the front end makes of it."""
        _tvm.load()
        from tvm import te

        from effcompile.frontend.kernels.attention import _attention, _Masks
        from effcompile.frontend.kernels.attention_rule import AttentionRule
        from effcompile.frontend.kernels.paged_attention import in_a_row

        attrs = self._attrs()
        names = ("scale", "causal", "offset", "at_end", "softcap", "window_left", "window_right")
        rule = AttentionRule(**{name: attrs[name] for name in names})  # type: ignore[arg-type]
        places = [
            te.placeholder(shape, dtype, name=name) for name, shape, dtype in self._arguments()
        ]
        named = {place.op.name: place for place in places}
        masks = _Masks(named.get("mask"), named.get("lengths"))
        tokens = places[1:3]
        if self.page:
            tokens = [in_a_row(pages, named["table"], pages.op.name) for pages in tokens]
        out = _attention((places[0], *tokens), masks, rule, float(attrs["scale"]))
        function = te.create_prim_func([*places, out])
        op = "paged_attention" if self.page else "attention"
        return workload_of(function, name="attention", op=op, attrs=attrs)

    def _arguments(self) -> list[tuple[str, tuple[int, ...], str]]:
        value_width = self.value_width or self.width
        n_in_row = self.keys // self.page if self.page else 0
        kv = (self.batch, self.kv_heads, self.keys)
        if self.page:
            kv = (self.batch * n_in_row + 3, self.kv_heads, self.page)
        found: list[tuple[str, tuple[int, ...], str]] = [
            ("q", (self.batch, self.heads, self.queries, self.width), self.dtype),
            ("k", (*kv, self.width), self.dtype),
            ("v", (*kv, value_width), self.dtype),
        ]
        if self.page:
            found.append(("table", (self.batch, n_in_row), "int32"))
        if self.mask:
            found.append(("mask", *self.mask))
        if self.lengths:
            found.append(("lengths", (self.batch,), self.lengths))
        return found

    def _attrs(self) -> dict[str, Attribute]:
        kind = "none" if self.mask is None else "bool" if self.mask[1] == "bool" else "float"
        return {
            "layout": "BHSD",
            "scale": self.width**-0.5,
            "causal": self.causal,
            "offset": self.offset,
            "at_end": self.at_end,
            "softcap": self.softcap,
            "window_left": self.window_left,
            "window_right": self.window_right,
            "mask": kind,
            "lengths": bool(self.lengths),
        }


def tree_mask(batch: int, queries: int, keys: int) -> Any:
    """A speculative tree: everyone sees what came before, a node its ancestors and itself.

    Node ``i`` hangs on node ``(i - 1) // 2``; shape (batch, 1, queries, keys), bool.
    """
    import numpy as np

    mask = np.ones((batch, 1, queries, keys), dtype=bool)
    mask[..., keys - queries :] = False
    for node in range(queries):
        at = node
        while True:
            mask[:, :, node, keys - queries + at] = True
            if at == 0:
                break
            at = (at - 1) // 2
    return mask


def decode_inputs(shape: Decode, seed: int = 3) -> list[Any]:
    """Random ones; masks as models have them; lengths of none and of one.

    A boolean mask of several queries is a tree. A float one hides half of the keys from one query;
    everywhere, it has the least number for a second, -1e9 for a third, minus infinity for a fourth.
    """
    import numpy as np
    from ml_dtypes import finfo

    from schedules.inputs import make_inputs

    inputs = make_inputs(shape.workload(), seed)
    if shape.mask is not None and shape.mask[1] == "bool" and shape.queries > 1:
        inputs[3] = tree_mask(shape.batch, shape.queries, shape.keys)
    elif shape.mask is not None and shape.mask[1] != "bool" and shape.mask[0][2] > 4:
        inputs[3][:, :, 1, ::2] = -np.inf
        inputs[3][:, :, 2] = finfo(inputs[3].dtype).min
        inputs[3][:, :, 3] = max(-1e9, float(finfo(inputs[3].dtype).min))
        inputs[3][:, :, 4] = -np.inf
    if shape.lengths and shape.batch > 2:
        inputs[-1][:2] = (0, 1)
    return inputs


def spoiled(shape: Decode, inputs: list[Any]) -> list[Any]:
    """The inputs with NaN in all that no query may see, and nonsense for pages without tokens."""
    import numpy as np

    changed = [array.copy() for array in inputs]
    if not shape.lengths:
        return changed
    for b, length in enumerate(inputs[-1]):
        if not shape.page:
            for array in changed[1:3]:
                array[b, :, int(length) :] = np.nan
            continue
        for i, page in enumerate(inputs[3][b]):
            n_valid = min(shape.page, max(0, int(length) - i * shape.page))
            for array in changed[1:3]:
                array[page, :, n_valid:] = np.nan
            if n_valid == 0:
                changed[3][b, i] = -77
    return changed

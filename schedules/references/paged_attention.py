"""Attention over pages: their tokens in a row, then ``schedules/references/attention.py``."""

from __future__ import annotations

import numpy as np

from schedules.attention_decode_problem import in_one_piece
from schedules.expected import Reference
from schedules.inputs import draw_tensor
from schedules.references import attention
from schedules.workload import Workload


def make(workload: Workload, rng: np.random.Generator) -> list[np.ndarray]:
    """N(0, 1), pages in random order, and valid lengths from one token to all of them."""
    query, key, value, table, lengths = workload.inputs
    n_tokens = table.shape[1] * key.shape[2]
    valid = rng.integers(1, n_tokens, size=lengths.shape, endpoint=True)
    valid[-1] = n_tokens
    return [
        *(draw_tensor(spec, rng) for spec in (query, key, value)),
        _table(key.shape[0], table.shape, rng),
        valid.astype(lengths.dtype),
    ]


def _table(n_pages: int, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Every page once, as far as there are enough."""
    n_wanted = int(np.prod(shape))
    rounds = [rng.permutation(n_pages) for _ in range(-(-n_wanted // n_pages))]
    return np.concatenate(rounds)[:n_wanted].reshape(shape).astype(np.int32)


def reference(workload: Workload, inputs: list[np.ndarray]) -> list[Reference]:
    """See ``schedules.references``."""
    query, key, value, table, lengths = inputs
    row = [in_a_row(pages, table) for pages in (key, value)]
    return attention.reference(in_one_piece(workload), [query, *row, lengths])


def in_a_row(pages: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Tokens of every sequence, shape (batch, heads, tokens, width).

    An entry that is no page reads the nearest one.
    """
    inside = np.clip(table, 0, len(pages) - 1)
    batch, n_in_row = table.shape
    _, heads, tokens, width = pages.shape
    rows = pages[inside].transpose(0, 2, 1, 3, 4)
    return np.asarray(rows.reshape(batch, heads, n_in_row * tokens, width))

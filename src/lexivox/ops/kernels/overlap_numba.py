"""Counts pairs of keys in one pass with open hash tables; see :mod:`lexivox.ops.overlap`."""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""Fibonacci hashing: the upper bits of a product with it are spread evenly."""


_FIRST_BITS = 12
"""Tables begin this small, which fits a cache; a cloud rarely has more than a thousand segments."""


def count_pairs(
    pred: tuple[np.ndarray, np.ndarray], true: tuple[np.ndarray, np.ndarray], kept: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Distinct keys of both sides, and for each distinct pair the rows of its keys and how often it occurs.

    Args:
        pred, true: class and id of every point; the key is id * num_classes + class.
    """
    for bits in range(_FIRST_BITS, 64, 3):
        tables = np.full((3, 1 << bits), -1, dtype=np.int64)
        rows = np.empty((3, 1 << bits), dtype=np.int64)
        found = np.empty((5, 1 << (bits - 1)), dtype=np.int64)  # a table is at most half full
        counts = _count(*pred, *true, kept, num_classes, np.uint64(64 - bits), tables, rows, found)
        if counts[2] >= 0:
            break
    ends = (counts[0], counts[1], counts[2], counts[2], counts[2])
    one, two, three, four, five = (part[:end].copy() for part, end in zip(found, ends, strict=True))
    return one, two, three, four, five


@numba.njit(cache=True, nogil=True)
@no_type_check
def _slot(table, key, shift):
    """Where a key stands or would stand."""
    slot = np.int64((np.uint64(key) * _GOLDEN) >> shift)
    while table[slot] != key and table[slot] != -1:
        slot = (slot + 1) & (len(table) - 1)
    return slot


@numba.njit(cache=True, nogil=True)
@no_type_check
def _row(table, rows, names, count, key, shift):
    """The number of a key, a new one if it is met first, and how many there are then."""
    slot = _slot(table, key, shift)
    if table[slot] == -1:
        table[slot], rows[slot], names[count] = key, count, key
        return count, count + 1
    return rows[slot], count


@numba.njit(cache=True, nogil=True)
@no_type_check
def _count(pred_label, pred_id, true_label, true_id, kept, num_classes, shift, tables, rows, found):
    """Numbers of segments and pairs; -1 pairs where the tables are too small."""
    n_pred, n_true, n_pairs, limit = 0, 0, 0, found.shape[1]
    last_pred, last_true, pair = np.int64(-1), np.int64(-1), 0
    found[4] = 0
    for i in range(len(kept)):
        if not kept[i]:
            continue
        pred, true = pred_id[i] * num_classes + pred_label[i], true_id[i] * num_classes + true_label[i]
        if pred != last_pred or true != last_true:  # neighbours are often of the same segments
            if max(n_pred, n_true, n_pairs) == limit:
                return n_pred, n_true, -1
            last_pred, last_true = pred, true
            p, n_pred = _row(tables[0], rows[0], found[0], n_pred, pred, shift)
            t, n_true = _row(tables[1], rows[1], found[1], n_true, true, shift)
            known = n_pairs
            pair, n_pairs = _row(tables[2], rows[2], found[2], n_pairs, p * limit + t, shift)
            if n_pairs > known:
                found[2, pair], found[3, pair] = p, t
        found[4, pair] += 1
    return n_pred, n_true, n_pairs

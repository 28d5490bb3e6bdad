"""Bilinear, trilinear and deformable sampling as loops over cells, in numpy."""

from __future__ import annotations

import itertools

import numpy as np


def linear(volume: np.ndarray, place: np.ndarray) -> np.ndarray:
    """``volume`` (C, n1, n2, ...) at a place in cells (cell i is centred at i + 0.5); 0 outside."""
    low = np.floor(place - 0.5).astype(np.int64)
    part = place - 0.5 - low
    total = np.zeros(volume.shape[0], volume.dtype)
    for step in itertools.product((0, 1), repeat=len(place)):
        cell = low + step
        if all(0 <= c < n for c, n in zip(cell, volume.shape[1:], strict=True)):
            weight = np.prod([p if s else 1 - p for s, p in zip(step, part, strict=True)])
            total += weight * volume[(slice(None), *cell)]
    return total


def deformable(
    value: np.ndarray, level_hw: list[tuple[int, int]], locations: np.ndarray, attention: np.ndarray
) -> np.ndarray:
    """value (T, heads, c), locations (Q, heads, L, S, 2), attention (Q, heads, L, S) -> (Q, heads * c)."""
    queries, heads, _, samples, _ = locations.shape
    out = np.zeros((queries, heads, value.shape[2]), value.dtype)
    for q, k in itertools.product(range(queries), range(heads)):
        start = 0
        for level, (h, w) in enumerate(level_hw):
            plane = value[start : start + h * w, k].T.reshape(-1, h, w)
            start += h * w
            for s in range(samples):
                x, y = locations[q, k, level, s] * (w, h)
                out[q, k] += attention[q, k, level, s] * linear(plane, np.array([y, x]))
    return out.reshape(queries, -1)

"""Slow, obvious twins of what answers a query."""

from __future__ import annotations

import math

import numpy as np


def components(index: np.ndarray) -> np.ndarray:
    """Flood fill from every voxel in turn; neighbours differ by at most 1 along every axis."""
    label = np.full(len(index), -1)
    for start in range(len(index)):
        if label[start] >= 0:
            continue
        number, open_ = label.max() + 1, [start]
        label[start] = number
        while open_:
            here = open_.pop()
            for other in range(len(index)):
                if label[other] < 0 and np.abs(index[here] - index[other]).max() <= 1:
                    label[other] = number
                    open_.append(other)
    return label


def smallest_area(xy: np.ndarray, steps: int = 20_000) -> float:
    """Least area of a rectangle around points, by trying many directions."""
    best = math.inf
    for angle in np.linspace(0, math.pi / 2, steps):
        turned = xy @ np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        best = min(best, float(np.prod(np.ptp(turned, axis=0))))
    return best


def cosine(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """One at a time; -1 where a row has no direction."""
    out = np.full((len(vectors), len(rows)), -1.0)
    for m, vector in enumerate(vectors.astype(np.float64)):
        for n, row in enumerate(rows.astype(np.float64)):
            length = math.sqrt(sum(v * v for v in row))
            if math.isfinite(length) and length > 0:
                out[m, n] = sum(vector * row) / length / math.sqrt(sum(vector**2))
    return out


def margin(fit: float, against: list[float], temperature: float) -> float:
    """A phrase's cosine minus the log-sum-exp of what it competes with, at a temperature."""
    return fit - temperature * math.log(sum(math.exp(score / temperature) for score in against))

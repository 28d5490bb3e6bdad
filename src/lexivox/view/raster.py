"""Convex polygons painted far to near with numpy: every pixel is touched once per polygon."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64, UInt8

ROWS_AT_ONCE = 1 << 18


def paint(
    image: UInt8[np.ndarray, "H W 3"], corners: Float[np.ndarray, "F K 2"], rgb: UInt8[np.ndarray, "F 3"]
) -> None:
    """Fill convex polygons into ``image`` in the order given; a later one covers an earlier one.

    A pixel belongs to a polygon when its centre does. Polygons with a NaN corner are left out.
    """
    height, width = image.shape[:2]
    good = np.isfinite(corners).all(axis=(1, 2))
    corners, rgb = corners[good], rgb[good]
    first = np.clip(np.ceil(corners[:, :, 1].min(axis=1) - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(corners[:, :, 1].max(axis=1) - 0.5), 0, height).astype(np.int64)
    rows = np.maximum(last - first, 0)
    ends = np.cumsum(rows)
    flat = image.reshape(-1, 3)
    start = 0
    while start < len(rows):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + ROWS_AT_ONCE)))
        part = slice(start, stop)
        owner, row = _expand(first[part], rows[part])
        left, right = _spans(corners[part], owner, row, width)
        span, pixel = _expand(row * width + left, right - left)
        flat[pixel] = rgb[part][owner[span]]  # numpy keeps the last of repeated targets: the nearest polygon
        start = stop


def _expand(
    first: Int64[np.ndarray, "A"], count: Int64[np.ndarray, "A"]
) -> tuple[Int64[np.ndarray, "B"], Int64[np.ndarray, "B"]]:
    """For every a the numbers ``first[a] .. first[a] + count[a] - 1``: rows of origin and numbers, packed."""
    owner = np.repeat(np.arange(len(first)), count)
    offset = np.cumsum(count) - count
    return owner, np.arange(len(owner)) + (first - offset)[owner]


def _spans(
    corners: Float[np.ndarray, "F K 2"],
    owner: Int64[np.ndarray, "S"],
    row: Int64[np.ndarray, "S"],
    width: int,
) -> tuple[Int64[np.ndarray, "S"], Int64[np.ndarray, "S"]]:
    """First pixel and end of each polygon on each of its rows, from where the row's centre cuts its edges."""
    y = row + 0.5
    low, high = np.full(len(row), np.inf), np.full(len(row), -np.inf)
    for k in range(corners.shape[1]):
        (xa, ya), (xb, yb) = corners[owner, k].T, corners[owner, (k + 1) % corners.shape[1]].T
        crosses = (ya <= y) != (yb <= y)
        x = xa + (y - ya) * (xb - xa) / np.where(crosses, yb - ya, 1.0)
        low = np.where(crosses, np.minimum(low, x), low)
        high = np.where(crosses, np.maximum(high, x), high)
    left = np.ceil(np.clip(low, 0, width) - 0.5).astype(np.int64)
    right = np.ceil(np.clip(high, 0, width) - 0.5).astype(np.int64)
    return left, np.maximum(right, left)

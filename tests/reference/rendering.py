# ruff: noqa: B905  (a slow twin reads best without strict=)
"""Rendering one ray and one segment at a time, in plain Python floats (IEEE float64)."""

from __future__ import annotations

import math

from reference.voxel_rays import walk


def segments(lower, size, shape, origin, direction, far_m):
    """``(voxel index, start_m, stop_m)`` of one ray, in order."""
    norm = math.sqrt(sum(d * d for d in direction))
    if norm == 0 or math.isnan(norm) or math.isnan(far_m):
        return []
    unit = [d / norm for d in direction]
    reach = min(max(far_m, 0.0), 1e3)
    visits, _ = walk(lower, size, shape, origin, [o + reach * u for o, u in zip(origin, unit)])
    if not visits:
        return []
    distance = entry_m(lower, size, shape, origin, unit)
    pieces = []
    for voxel, length in visits:
        pieces.append((voxel, distance, distance + length))
        distance += length
    return pieces


def entry_m(lower, size, shape, origin, unit):
    """The distance at which a ray that meets the grid's box enters it: 0 from inside."""
    near = 0.0
    for o, u, low, s, n in zip(origin, unit, lower, size, shape):
        if u != 0:
            near = max(near, min((low - o) / u, (low + n * s - o) / u))
    return near


def march(extinction, starts, stops):
    """Weights, transmittances, what remains, and the first moment in metres."""
    weights, transmittances, through, moment = [], [], 0.0, 0.0
    for sigma, start, stop in zip(extinction, starts, stops):
        here, tau = math.exp(-through), sigma * (stop - start)
        weights.append(here * -math.expm1(-tau))
        transmittances.append(here)
        moment += here * stopped_m(sigma, start, stop)
        through += tau
    return weights, transmittances, math.exp(-through), moment


def stopped_m(sigma, start, stop, steps=2000):
    """Integral of t * sigma * exp(-sigma * (t - start)) from start to stop, by Simpson's rule."""
    width = (stop - start) / steps
    total = 0.0
    for step in range(steps + 1):
        t = start + step * width
        factor = 1 if step in (0, steps) else 4 if step % 2 else 2
        total += factor * t * sigma * math.exp(-sigma * (t - start))
    return total * width / 3


def composite(weights, rows, table):
    """Weighted sum of table rows, as lists."""
    out = [0.0] * len(table[0])
    for weight, row in zip(weights, rows):
        out = [o + weight * v for o, v in zip(out, table[row])]
    return out


def distortion(weights, starts, stops):
    """All pairs of segments."""
    middles = [(a + b) / 2 for a, b in zip(starts, stops)]
    pairs = sum(v * w * abs(m - n) for v, m in zip(weights, middles) for w, n in zip(weights, middles))
    return pairs + sum(w * w * (b - a) for w, a, b in zip(weights, starts, stops)) / 3

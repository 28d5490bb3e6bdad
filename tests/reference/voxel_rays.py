# ruff: noqa: B905  (a slow twin reads best without strict=)
"""Voxel traversal one ray and one voxel at a time, in plain Python floats (IEEE float64)."""

from __future__ import annotations

import math

import numpy as np


def walk(lower, size, shape, origin, end):
    """Voxels of a segment in order, as ``(index, length_m)``, and whether its end lies in the last one."""
    begin = [(float(o) - low) / s for o, low, s in zip(origin, lower, size)]
    goal = [(float(e) - low) / s for e, low, s in zip(end, lower, size)]
    direction = [g - b for g, b in zip(goal, begin)]
    if not all(math.isfinite(d) for d in direction):
        return [], False
    begins_inside = all(0 <= b < n for b, n in zip(begin, shape))
    ends_inside = all(0 <= g < n for g, n in zip(goal, shape))
    near, far = 0.0, 1.0
    for b, d, n in zip(begin, direction, shape):
        if d != 0:
            near, far = max(near, min((0.0 - b) / d, (n - b) / d)), min(far, max((0.0 - b) / d, (n - b) / d))
        elif not 0 <= b < n:
            near = math.inf
    if not (near < far or begins_inside or ends_inside):
        return [], False
    start = [min(max(b + near * d, 0.0), float(n)) for b, d, n in zip(begin, direction, shape)]
    stop = [b + far * d for b, d in zip(begin, direction)] if far < 1.0 else goal
    stop = [min(max(s, 0.0), float(n)) for s, n in zip(stop, shape)]
    voxel = [min(math.floor(s), n - 1) for s, n in zip(start, shape)]
    last = [min(math.floor(s), n - 1) for s, n in zip(stop, shape)]

    visits, entered = [tuple(voxel)], [0.0]
    while voxel != last:
        times = []
        for axis in range(3):
            if voxel[axis] == last[axis]:
                times.append(math.inf)
                continue
            plane = voxel[axis] + (1 if last[axis] > voxel[axis] else 0)
            times.append((plane - start[axis]) * (1.0 / (stop[axis] - start[axis])))
        axis = times.index(min(times))  # the first of equal times: x before y before z
        voxel[axis] += 1 if last[axis] > voxel[axis] else -1
        visits.append(tuple(voxel))
        entered.append(min(max(times[axis], 0.0), 1.0))
    length = math.sqrt(sum(((b - a) * s) ** 2 for a, b, s in zip(start, stop, size)))
    left = [*entered[1:], 1.0]
    return [(v, (t1 - t0) * length) for v, t0, t1 in zip(visits, entered, left)], ends_inside


def mark_free(lower, size, shape, origins, ends):
    """Voxels passed before the end, as a boolean volume."""
    free = np.zeros(shape, dtype=bool)
    for origin, end in zip(np.broadcast_to(origins, np.shape(ends)), ends):
        visits, ends_inside = walk(lower, size, shape, origin, end)
        for voxel, _ in visits[: len(visits) - ends_inside]:
            free[voxel] = True
    return free


def label(lower, size, shape, origins, points):
    """0 free, 1 occupied, 255 ignored."""
    volume = np.where(mark_free(lower, size, shape, origins, points), 0, 255).astype(np.uint8)
    for point in points:
        if all(math.isfinite(p) for p in point):
            voxel = tuple(math.floor((float(p) - low) / s) for p, low, s in zip(point, lower, size))
            if all(0 <= v < n for v, n in zip(voxel, shape)):
                volume[voxel] = 1
    return volume

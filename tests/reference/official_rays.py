"""RayIoU and RayPQ as SparseOcc's tool goes about it, ray by ray: its roundings, its walk, its counts."""

from __future__ import annotations

import math

import numpy as np

MAX_STEP = 1000
THRESHOLDS = (1, 2, 4)


def cast(label, free, origin_m, directions, lower_m, edge_m):
    """Label and distance of every ray from one place: (R,) each. A ray is told by two ends, both float32 voxels."""
    lower, edge = np.float32(lower_m).astype(float), float(np.float32(edge_m))
    start = ((np.float64(origin_m) - lower) / edge).astype(np.float32).astype(float)
    ends = ((np.float64(origin_m) + np.float32(directions) - lower) / edge).astype(np.float32).astype(float)
    found = [_walk(label != free, start.tolist(), end.tolist()) for end in ends]
    distance = np.float32([d for _, d in found]) * np.float32(edge_m)
    return np.array([label[cell] for cell, _ in found]), distance


def _walk(occupied, start, end):
    """The first occupied cell inside, else the last one, and where it is left; never inside: cell 0 at -1."""
    ray = [b - a for a, b in zip(start, end, strict=True)]
    length = math.sqrt(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2])
    cell, step, to_border, across = [int(a) for a in start], [], [], []
    for axis in range(3):
        d = ray[axis] / length
        step.append(1 if d >= 0 else -1)
        border = cell[axis] + (step[axis] > 0)
        to_border.append((border - start[axis]) / d if d != 0 else math.inf)
        across.append(step[axis] / d if d != 0 else math.inf)
    passed = []
    for _ in range(MAX_STEP + 1):
        inside = all(0 <= cell[axis] < occupied.shape[axis] for axis in range(3))
        if passed and not inside:
            break
        x, y, z = to_border
        if x < y:  # noqa: SIM108
            axis = 0 if x < z else 2
        else:
            axis = 1 if y < z else 2
        if inside:
            passed.append((tuple(cell), to_border[axis]))
        cell[axis] += step[axis]
        to_border[axis] += across[axis]
    hits = [p for p in passed if occupied[p[0]]]
    return (hits or passed[-1:] or [((0, 0, 0), -1.0)])[0]


def rayiou(rays, num_classes):
    """(3, K - 1) IoU of (said label, said m, true label, true m) of every sample; the last class is free."""
    tp = np.zeros((3, num_classes))
    said_count, true_count = np.zeros(num_classes), np.zeros(num_classes)
    for said, said_m, true, true_m in rays:
        valid = true != num_classes - 1
        said, said_m, true, true_m = said[valid], said_m[valid], true[valid], true_m[valid]
        error = np.abs(said_m - true_m)
        for c in range(num_classes):
            said_count[c] += (said == c).sum()
            true_count[c] += (true == c).sum()
            for row, threshold in enumerate(THRESHOLDS):
                tp[row, c] += ((said == c) & (true == c) & (error < threshold)).sum()
    with np.errstate(invalid="ignore"):
        return (tp / (true_count + said_count - tp))[:, :-1]

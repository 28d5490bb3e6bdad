"""Slow and obvious twins of lifting: loops over pixels, bins and channels, typed from the equations."""

from __future__ import annotations

import math

import numpy as np


def pool(feature, weight, xyz, lower, size, shape, truncate=False):
    """``feature (B, pixels, C)``, ``weight (B, pixels, D)``, ``xyz (B, pixels, D, 3)`` -> ``(B, C, X, Y, Z)``."""
    out = np.zeros((len(feature), feature.shape[2], *shape), dtype=feature.dtype)
    for b in range(len(feature)):
        for n in range(feature.shape[1]):
            for d in range(weight.shape[2]):
                place = [(xyz[b, n, d, axis] - lower[axis]) / size[axis] for axis in range(3)]
                cell = tuple(math.trunc(p) if truncate else math.floor(p) for p in place)
                if all(0 <= c < s for c, s in zip(cell, shape, strict=True)):
                    out[(b, slice(None), *cell)] += weight[b, n, d] * feature[b, n]
    return out


def bilinear(image, column, row):
    """``image (C, h, w)`` between its cells, which are centred at whole numbers; 0 outside."""
    total = np.zeros(image.shape[0])
    for j in (math.floor(row), math.floor(row) + 1):
        for i in (math.floor(column), math.floor(column) + 1):
            if 0 <= j < image.shape[1] and 0 <= i < image.shape[2]:
                total += (1 - abs(row - j)) * (1 - abs(column - i)) * image[:, j, i]
    return total


def cost_volume(current, other, image_from_cam, other_from_cam, depths, image_hw):
    """One view, cells standing for their centres: ``(C, h, w)`` twice -> ``(D, h, w)``."""
    (_, h, w), (height, width) = current.shape, image_hw
    cost = np.zeros((len(depths), h, w))
    for j in range(h):
        for i in range(w):
            pixel = np.array([(i + 0.5) * width / w, (j + 0.5) * height / h, 1.0])
            for d, depth in enumerate(depths):
                xyz = other_from_cam[:3, :3] @ (np.linalg.inv(image_from_cam) @ pixel * depth) + other_from_cam[:3, 3]
                u, v, z = image_from_cam @ xyz
                column, row = (u / z * w / width - 0.5, v / z * h / height - 0.5) if z >= 1e-3 else (-9.0, -9.0)
                seen = -1 < column < w and -1 < row < h
                cost[d, j, i] = np.abs(current[:, j, i] - bilinear(other, column, row)).sum() + 5.0 * (not seen)
    share = np.exp(-(cost - cost.min(axis=0)))
    return share / share.sum(axis=0)

"""Labels on another grid, voxel by voxel and piece by piece."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import numpy as np


def convert(label, old, new, new_from_old, *, free, ignore, rule):
    """The volume, and (occupied, outside, outvoted). Grids are (lower, size, shape), the transform a 4 x 4 matrix."""
    old_from_new = np.linalg.inv(new_from_old)
    pieces = max(1, *(math.ceil(n / o - 1e-6) for n, o in zip(new[1], old[1], strict=True)))
    result = np.full(new[2], ignore, np.uint8)
    for index in np.ndindex(*new[2]):
        votes = Counter()
        for part in product(range(pieces), repeat=3):
            xyz = [new[0][a] + (index[a] + (part[a] + 0.5) / pieces) * new[1][a] for a in range(3)]
            place = _place(old_from_new @ [*xyz, 1.0], old)
            if place is not None and label[place] != ignore:
                votes[int(label[place])] += 1
        occupied = {c: n for c, n in votes.items() if c != free}
        chosen = occupied or votes if rule == "any" else votes
        if chosen:
            result[index] = min(chosen, key=lambda c: (-chosen[c], c))
    moved = []
    for index in np.argwhere((label != free) & (label != ignore)):
        centre = [old[0][a] + (index[a] + 0.5) * old[1][a] for a in range(3)]
        moved.append((_place(new_from_old @ [*centre, 1.0], new), int(label[tuple(index)])))
    inside = [(place, c) for place, c in moved if place is not None]
    if rule == "any":
        empty = {place for place, _ in inside if result[place] in (free, ignore)}
        for place in empty:
            result[place] = min(c for p, c in inside if p == place)
    return result, (len(moved), len(moved) - len(inside), sum(result[place] != c for place, c in inside))


def _place(xyz, grid):
    index = tuple(math.floor((xyz[a] - grid[0][a]) / grid[1][a]) for a in range(3))
    return index if all(0 <= index[a] < grid[2][a] for a in range(3)) else None

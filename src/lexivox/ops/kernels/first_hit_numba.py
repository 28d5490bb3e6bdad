"""Compiled walk of rays to the first occupied voxel; the rule is that of :mod:`lexivox.ops.first_hit`."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import no_type_check

import numba

MAX_STEPS_OUTSIDE = 1000
"""A ray that has not entered the grid after so many borders never does."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _axis(origin, direction):
    """Cell of the origin, step, distance to the first border and from border to border."""
    cell = int(origin)
    if direction > 0.0:
        return cell, 1, (cell + 1 - origin) / direction, 1.0 / direction
    if direction < 0.0:
        return cell, -1, (cell - origin) / direction, -1.0 / direction
    return cell, 0, math.inf, math.inf


def first_hits(occupied, origins, directions, voxel, distance, threads):
    """Fill ``voxel`` (flat index in x, y, z order) and ``distance`` (in voxels) of every origin's every ray; -1 for
    both where a ray never enters the grid.

    Threads of Python and no parallel loop of numba, which would change how many threads torch uses.
    """
    with ThreadPoolExecutor(threads) as pool:
        list(
            pool.map(
                lambda o: _first_hits_of(occupied, origins[o], directions[o], voxel[o], distance[o]),
                range(len(origins)),
            )
        )


@numba.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _first_hits_of(occupied, origin, directions, voxel, distance):
    size_x, size_y, size_z = occupied.shape
    for ray in range(directions.shape[0]):
        x, step_x, t_x, delta_x = _axis(origin[0], directions[ray, 0])
        y, step_y, t_y, delta_y = _axis(origin[1], directions[ray, 1])
        z, step_z, t_z, delta_z = _axis(origin[2], directions[ray, 2])
        steps = 0
        while steps <= MAX_STEPS_OUTSIDE and not (0 <= x < size_x and 0 <= y < size_y and 0 <= z < size_z):
            if t_x < t_y and t_x < t_z:
                t_x, x = t_x + delta_x, x + step_x
            elif t_y < t_z:
                t_y, y = t_y + delta_y, y + step_y
            else:
                t_z, z = t_z + delta_z, z + step_z
            steps += 1
        if steps > MAX_STEPS_OUTSIDE:
            voxel[ray], distance[ray] = -1, -1.0
            continue
        while True:
            here_x, here_y, here_z = x, y, z
            if t_x < t_y and t_x < t_z:
                t, t_x, x = t_x, t_x + delta_x, x + step_x
            elif t_y < t_z:
                t, t_y, y = t_y, t_y + delta_y, y + step_y
            else:
                t, t_z, z = t_z, t_z + delta_z, z + step_z
            outside = x < 0 or y < 0 or z < 0 or x >= size_x or y >= size_y or z >= size_z
            if outside or occupied[here_x, here_y, here_z]:
                voxel[ray] = (here_x * size_y + here_y) * size_z + here_z
                distance[ray] = t
                break


@numba.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def mark_until_hit(occupied, places, directions, seen):
    """Mark what each ray passes from its place inside the grid, up to and with the first occupied cell."""
    size_x, size_y, size_z = occupied.shape
    for ray in range(directions.shape[0]):
        x, step_x, t_x, delta_x = _axis(places[ray, 0], directions[ray, 0])
        y, step_y, t_y, delta_y = _axis(places[ray, 1], directions[ray, 1])
        z, step_z, t_z, delta_z = _axis(places[ray, 2], directions[ray, 2])
        while 0 <= x < size_x and 0 <= y < size_y and 0 <= z < size_z:
            seen[x, y, z] = True
            if occupied[x, y, z]:
                break
            if t_x < t_y and t_x < t_z:
                t_x, x = t_x + delta_x, x + step_x
            elif t_y < t_z:
                t_y, y = t_y + delta_y, y + step_y
            else:
                t_z, z = t_z + delta_z, z + step_z

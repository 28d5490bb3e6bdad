"""Compiled walk of rays through a grid; the rule is that of :mod:`lexivox.geometry.rays`, rounding included.

Threads of Python and no parallel loop of numba, which would change how many threads torch uses.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import no_type_check

import numba

from lexivox.ops.kernels.traversal_numba import _axis_walk, _clip_axis

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}

_ALONE = 512
"""Rays below which one thread is enough."""


@numba.njit(**_OPTIONS)
@no_type_check
def _begin_and_end(origin, end, lower, size):
    """Both ends of one ray in voxel coordinates, and whether all six numbers are finite."""
    begin = ((origin[0] - lower[0]) / size[0], (origin[1] - lower[1]) / size[1], (origin[2] - lower[2]) / size[2])
    goal = ((end[0] - lower[0]) / size[0], (end[1] - lower[1]) / size[1], (end[2] - lower[2]) / size[2])
    x, y, z = goal[0] - begin[0], goal[1] - begin[1], goal[2] - begin[2]
    return begin, goal, math.isfinite(x) and math.isfinite(y) and math.isfinite(z)


@numba.njit(**_OPTIONS)
@no_type_check
def _clip(begin, end, box):
    """The fractions of a ray between which it lies in the grid, and whether it does at all."""
    near_x, far_x = _clip_axis(begin[0], end[0], box[0])
    near_y, far_y = _clip_axis(begin[1], end[1], box[1])
    near_z, far_z = _clip_axis(begin[2], end[2], box[2])
    near, far = max(max(near_x, near_y), max(near_z, 0.0)), min(min(far_x, far_y), min(far_z, 1.0))
    begins = 0.0 <= begin[0] < box[0] and 0.0 <= begin[1] < box[1] and 0.0 <= begin[2] < box[2]
    ends = 0.0 <= end[0] < box[0] and 0.0 <= end[1] < box[1] and 0.0 <= end[2] < box[2]
    return near, far, near < far or begins or ends


@numba.njit(**_OPTIONS)
@no_type_check
def _count_some(origins, towards, ends, lower, size, shape, count, first_ray, last_ray):
    box = (float(shape[0]), float(shape[1]), float(shape[2]))
    for ray in range(first_ray, last_ray):
        begin, end, is_finite = _begin_and_end(origins[ray], ends[ray], lower, size)
        near, far, hit = _clip(begin, end, box)
        if is_finite and hit:
            count[ray] = 1
            for axis in range(3):
                count[ray] += _axis_walk(begin[axis], end[axis], near, far, box[axis], 1)[1]


@numba.njit(**_OPTIONS)
@no_type_check
def _stop_of(begin, end, far, box):
    """Where the clipped ray ends along one axis."""
    return min(max(begin + far * (end - begin) if far < 1.0 else end, 0.0), box)


@numba.njit(**_OPTIONS)
@no_type_check
def _fill_some(origins, towards, ends, lower, size, shape, first, voxel, start_m, stop_m, first_ray, last_ray):
    box = (float(shape[0]), float(shape[1]), float(shape[2]))
    strides = (shape[1] * shape[2], shape[2], 1)
    for ray in range(first_ray, last_ray):
        begin, end, is_finite = _begin_and_end(origins[ray], ends[ray], lower, size)
        near, far, hit = _clip(begin, end, box)
        if not (is_finite and hit):
            continue
        walk_x = _axis_walk(begin[0], end[0], near, far, box[0], strides[0])
        walk_y = _axis_walk(begin[1], end[1], near, far, box[1], strides[1])
        walk_z = _axis_walk(begin[2], end[2], near, far, box[2], strides[2])
        starts = (walk_x[2], walk_y[2], walk_z[2])
        near_m, length_m = 0.0, 0.0
        for axis in range(3):
            stop = _stop_of(begin[axis], end[axis], far, box[axis])
            near_m += (starts[axis] - begin[axis]) * size[axis] * towards[ray, axis]
            length_m += (stop - starts[axis]) * size[axis] * towards[ray, axis]
        near_m = max(near_m, 0.0)
        _fill_walk(walk_x, walk_y, walk_z, strides, near_m, length_m, first[ray], voxel, start_m, stop_m)


@numba.njit(**_OPTIONS)
@no_type_check
def _fill_walk(walk_x, walk_y, walk_z, strides, near_m, length_m, at, voxel, start_m, stop_m):
    """Always cross the nearest plane, x before y before z when equal; write each voxel as it is left."""
    first_x, left_x, start_x, inverse_x, plane_x, sign_x, step_x = walk_x
    first_y, left_y, start_y, inverse_y, plane_y, sign_y, step_y = walk_y
    first_z, left_z, start_z, inverse_z, plane_z, sign_z, step_z = walk_z
    flat = first_x * strides[0] + first_y * strides[1] + first_z * strides[2]
    t_x = (plane_x - start_x) * inverse_x if left_x else math.inf
    t_y = (plane_y - start_y) * inverse_y if left_y else math.inf
    t_z = (plane_z - start_z) * inverse_z if left_z else math.inf
    here_m = near_m
    for place in range(at, at + left_x + left_y + left_z):
        voxel[place] = flat
        if t_x <= t_y and t_x <= t_z:
            t = t_x
            flat, left_x, plane_x = flat + step_x, left_x - 1, plane_x + sign_x
            t_x = (plane_x - start_x) * inverse_x if left_x > 0 else math.inf
        elif t_y <= t_z:
            t = t_y
            flat, left_y, plane_y = flat + step_y, left_y - 1, plane_y + sign_y
            t_y = (plane_y - start_y) * inverse_y if left_y > 0 else math.inf
        else:
            t = t_z
            flat, left_z, plane_z = flat + step_z, left_z - 1, plane_z + sign_z
            t_z = (plane_z - start_z) * inverse_z if left_z > 0 else math.inf
        start_m[place] = here_m
        here_m = near_m + min(max(t, 0.0), 1.0) * length_m
        stop_m[place] = here_m
        at = place + 1
    voxel[at], start_m[at], stop_m[at] = flat, here_m, near_m + length_m


def _over_rays(kernel, num_rays, threads, *arguments):
    """Run a kernel over all rays, a share of them in each thread."""
    if threads == 1 or num_rays < _ALONE:
        kernel(*arguments, 0, num_rays)
        return
    bounds = [num_rays * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda first, last: kernel(*arguments, first, last), bounds[:-1], bounds[1:]))


def count(rays, out, threads):
    """Fill ``out`` (R,) with how many voxels each ray passes.

    ``rays``: origins, unit directions and ends, each (R, 3) float64 in metres; lower corner, voxel size and shape
    of the grid.
    """
    _over_rays(_count_some, len(out), threads, *rays, out)


def fill(rays, outputs, threads):
    """Write what each ray passes, from its place ``first`` on: ``outputs`` are first, voxel, start_m, stop_m."""
    _over_rays(_fill_some, len(outputs[0]), threads, *rays, *outputs)
